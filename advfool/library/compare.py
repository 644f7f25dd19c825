"""Compares an original with a manipulated network: `advfool.compare`."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from pytorch_lightning import Trainer
from torch import Tensor, nn

from advfool.evaluation.assembly import assemble, with_controls
from advfool.evaluation.comparison import Results, compare_networks
from advfool.evaluation.gate import gate_of
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.paired import NETWORKS, Target
from advfool.evaluation.setup import AccuracySettings, AOPCSettings, FaithfulnessSettings, Settings, Setup
from advfool.evaluation.summary import summarise
from advfool.evaluation.writing import write_results
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter
from advfool.library.datasets import copy_of_classifier, prepare_data
from advfool.library.explain import explain
from advfool.library.interpreters import chosen_fooling, chosen_interpreters
from advfool.models.weights import write_weights
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import WEIGHTS
from advfool.utilities.kinds import Accelerator, Count, Names, Seed, Share, Size, Text


@dataclass(frozen=True)
class ComparisonResult:
    """An original and a manipulated network, compared on the test images.

    Args:
        original: the original network, a copy of the one that was given.
        model: the manipulated network.
        metrics: what metrics.json of a run holds: accuracy, FSR, test losses, similarities, with 95 % intervals.
        setup: the data, interpreters, fooling and settings.
        results: one row for each test image.
    """

    original: nn.Module
    model: nn.Module
    metrics: dict[str, Any]
    setup: Setup
    results: Results

    def heatmaps(
        self, images: Tensor, targets: Tensor | Sequence[int] | int | None = None, interp: str | None = None
    ) -> dict[str, np.ndarray]:
        """Compute the heatmaps of images by both networks, at the images' size.

        Args:
            images: (n, c, h, w), as the networks take them.
            targets: the class that is explained for each image, or one for all; None: what the original predicts.
            interp: the name of one of the result's interpreters; None: the first one.

        Returns:
            heatmaps (n, h, w) of the `original` and of the `manipulated` network.

        Raises:
            AdvfoolError: the result has no such interpreter.
        """
        name = next(iter(self.setup.interpreters)) if interp is None else interp
        if name not in self.setup.interpreters:
            known = ", ".join(self.setup.interpreters)
            raise AdvfoolError(f"heatmaps: this result has no interpreter '{name}'. It has: {known}.")
        classes = self._predictions(images) if targets is None else targets
        interpreter, pair = self.setup.interpreters[name], (self.original, self.model)
        return {key: explain(net, images, classes, interpreter) for key, net in zip(NETWORKS, pair, strict=True)}

    @torch.no_grad()
    def _predictions(self, images: Tensor) -> Tensor:
        return self.original(images.to(next(self.original.parameters()))).argmax(dim=1)

    def save(self, folder: str | Path) -> Path:
        """Write the files that a run of the command line leaves: metrics, weights, rows and pictures.

        Args:
            folder: where they go; it is made where it does not exist.

        Returns:
            the folder.

        Raises:
            AdvfoolError: the folder holds another result.
        """
        place = Path(folder).expanduser()
        if (place / WEIGHTS).exists():
            raise AdvfoolError(f"save: '{place}' holds a result already. Give another folder, or remove that one.")
        place.mkdir(parents=True, exist_ok=True)
        write_weights(self.model, place / WEIGHTS, self.setup.data.classes)
        write_results(place, self.setup, self.model, self.results, self.metrics)
        return place


@checked
def compare(
    original: nn.Module,
    manipulated: nn.Module,
    dataset: object,
    interpreters: Sequence[Text | Interpreter] = ("gradcam", "lrp_t", "simplegrad_t"),
    fooling: Text | Fooling = "location",
    *,
    layer: Text | None = None,
    target: Target = "label",
    selection: object = None,
    test: object = None,
    groups: Sequence[Hashable] | Int[Tensor, "n"] | None = None,
    classes: Names | None = None,
    output: Text | int | None = None,
    batch_size: Count = 64,
    fsr_images: Count | None = None,
    aopc_images: Size = 0,
    faithful_images: Size = 64,
    accuracy_margin: Share = 0.01,
    nulls: Mapping[Text, nn.Module] | None = None,
    seed: Seed = 0,
    accelerator: Accelerator = "auto",
    progress: bool = False,
) -> ComparisonResult:
    """Compare an original with a manipulated network on test images: accuracy, heatmaps, success of the fooling.

    Args:
        original: the network before the fooling; it is left as it is.
        manipulated: a network with the same classes; it is left as it is.
        dataset: see `fool`; only its test part is used.
        interpreters: names on the command line (see `list_interpreters`), or objects.
        fooling: name (see `list_foolings`) or object; its test loss and interval say which images count as fooled.
        layer: target layer of the interpreters that have one; None: the last convolution or block whose map is at
            least 7x7.
        target: the class that is explained: `label`, or `predicted` (what the original network predicts). Without
            labels it is `predicted`.
        selection: see `fool`.
        test: see `fool`.
        groups: see `fool`.
        classes: see `fool`.
        output: see `fool`.
        batch_size: half of the images that are measured at a time.
        fsr_images: heatmaps are measured on so many random test images; None: on all.
        aopc_images: AOPC curves are measured on so many of them.
        faithful_images: see `fool`.
        accuracy_margin: see `fool`.
        nulls: see `fool`.
        seed: of the split and of the choice of images.
        accelerator: Lightning's word for the device: `auto`, `cpu` or `gpu`.
        progress: whether a progress bar is shown.

    Returns:
        the metrics, the rows and both networks.

    Raises:
        AdvfoolError: something does not exist or does not fit; the message says what to do.
    """
    networks = [copy_of_classifier(network, output) for network in (original, manipulated)]
    data = prepare_data(networks[0], dataset, selection, test, groups, classes, seed, batch_size)
    shape = data.input.shape
    chosen = chosen_interpreters(interpreters, networks[0], shape, layer)
    aopc = AOPCSettings(aopc_images, 50, max(1, min(shape[1:]) // 14), seed=seed)
    faithful = FaithfulnessSettings(faithful_images, seed=seed)
    margin = AccuracySettings(accuracy_margin)
    settings = Settings(target if data.has_labels else "predicted", seed, fsr_images, aopc, faithful, accuracy=margin)
    setup = assemble(
        data, networks[0], chosen, chosen_fooling(fooling), settings, trains=False, model=type(original).__name__
    )
    setup = with_controls(setup, copies_of_controls(nulls, output))
    gate = gate_of(setup)
    compared = run_comparison(setup, networks[1], measuring_trainer(accelerator, progress))
    return replace(compared, metrics=compared.metrics | gate)


def copies_of_controls(networks: Mapping[str, nn.Module] | None, output: str | int | None) -> dict[str, nn.Module]:
    """Copy the networks whose heatmaps are controls, in eval mode.

    Args:
        networks: by the control's name; None: there are none.
        output: see `fool`.
    """
    return {name: copy_of_classifier(network, output) for name, network in (networks or {}).items()}


def run_comparison(setup: Setup, manipulated: nn.Module, trainer: Trainer) -> ComparisonResult:
    """Compare the networks of a setup; the command line and `compare` both call this.

    Args:
        setup: what is compared, and how.
        manipulated: the manipulated network.
        trainer: runs the comparison.
    """
    results = compare_networks(setup, manipulated, trainer)
    return ComparisonResult(setup.original, manipulated, summarise(results, setup), setup, results)
