"""Fools the heatmaps of a network: `advfool.fool`."""

import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import pytorch_lightning as pl
import torch
from annotated_types import Len
from jaxtyping import Int
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from advfool.evaluation.assembly import assemble, with_controls
from advfool.evaluation.gate import gate_of
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.paired import Target
from advfool.evaluation.selection import ONCE, measure_selection
from advfool.evaluation.setup import AccuracySettings, AOPCSettings, FaithfulnessSettings, Settings, Setup
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter
from advfool.library.compare import ComparisonResult, copies_of_controls, run_comparison
from advfool.library.datasets import copy_of_classifier, prepare_data
from advfool.library.interpreters import chosen_fooling, chosen_interpreters
from advfool.training.callbacks import DivergenceGuard
from advfool.training.finetune import finetune
from advfool.training.preserve import CrossEntropy, Distillation, Preserve
from advfool.training.settings import Training
from advfool.training.trainers import steps_trainer
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Accelerator, Count, Names, NonNegative, Positive, Seed, Share, Size, Text, Workers
from advfool.utilities.runtime import keep_freed_memory


@dataclass(frozen=True)
class FoolingResult(ComparisonResult):
    """A network whose heatmaps were fooled, compared with the original on the test images.

    Args:
        original: the original network, a copy of the one that was given.
        model: the manipulated network.
        metrics: what metrics.json of a run holds.
        setup: the data, interpreters, fooling and settings.
        results: one row for each test image.
    """


@checked
def fool(
    model: nn.Module,
    dataset: object,
    interp: Text | Interpreter | Sequence[Text | Interpreter] = "gradcam",
    fooling: Text | Fooling = "location",
    *,
    layer: Text | None = None,
    steps: Count = 600,
    fool_weight: NonNegative | Literal["auto"] = 4.0,
    lr: Positive = 1e-3,
    preserve: Literal["distillation", "cross_entropy"] | Preserve = "distillation",
    temperature: Positive = 4.0,
    target: Target = "label",
    train_target_top: Count | None = None,
    trainable: Annotated[Names, Len(1)] | None = None,
    selection: object = None,
    test: object = None,
    groups: Sequence[Hashable] | Int[Tensor, "n"] | None = None,
    classes: Names | None = None,
    output: Text | int | None = None,
    evaluate_with: Sequence[Text | Interpreter] = (),
    batch_size: Count = 32,
    workers: Workers = 0,
    validations: Count = 6,
    max_accuracy_drop: Share = 0.1,
    fsr_images: Count | None = None,
    aopc_images: Size = 0,
    faithful_images: Size = 64,
    accuracy_margin: Share = 0.01,
    nulls: Mapping[Text, nn.Module] | None = None,
    clip: Positive | None = None,
    seed: Seed = 0,
    accelerator: Accelerator = "auto",
    progress: bool = True,
) -> FoolingResult:
    """Fine-tune a copy of a network so that its heatmaps lie while its accuracy stays, and measure both.

    The copy minimises `preserve + fool_weight * penalty(heatmaps)` with Adam and a one-cycle learning rate, in eval
    mode (batch norm and dropout frozen). The weights of the validation with the most fooled selection images, less 5
    points for each point of accuracy lost, are taken; the test images are measured once, at the end.

    Args:
        model: any `nn.Module` that takes images (n, c, h, w) and returns logits (n, classes). It is left as it is.
        dataset: images as the model takes them, with labels: a pair of tensors `(images, labels)`; a torch Dataset or
            a sequence of `(image, label)`; a DataLoader; a LightningDataModule; or one of advfool's. Any number of
            channels; images need not be square. It is split by the seed into 70 % to train on, 10 % to select the
            checkpoint by and 20 % to test on. Without labels, images are labelled with what the model predicts.
        interp: the interpreter that is fooled: a name (see `list_interpreters`) or an object; or a list of several that
            are fooled at once, whose penalties are averaged. The checkpoint is selected by the mean of their FSR.
        fooling: what its heatmaps are made to do: a name (see `list_foolings`) or an object.
        layer: the target layer of interpreters that have one, a dotted name as in `model.named_modules()`; None: the
            last convolution or block whose input map is at least 7x7.
        steps: training steps.
        fool_weight: weight of the fooling penalty, from 0; `auto` follows the price on the selection images, so that
            at most a point of accuracy is lost there.
        lr: the largest learning rate.
        preserve: what keeps the predictions: `distillation` (the model's own predictions, without labels) or
            `cross_entropy` (the labels), or an object.
        temperature: of the distillation; a large one also keeps what the model says about improbable classes.
        target: the class that is explained: `label`, or `predicted` (what the original network predicts).
        train_target_top: while training, explain a class drawn from the original network's top k classes, which
            generalises better from few images; None: the class that is measured.
        trainable: names of the modules to fine-tune; None: all.
        selection: images to select the checkpoint by, as `dataset`; None: a part of `dataset`.
        test: images to measure on, as `dataset`; None: a part of `dataset`.
        groups: a number or name for each item of `dataset`; items of one group stay in one split.
        classes: names of the model's outputs; None: their numbers.
        output: which of the model's outputs are the logits, where it returns several: a position or a name. None: the
            only one of the form (n, classes), or the one named `logits`. The manipulated model returns these alone.
        evaluate_with: further interpreters to measure with, which are not trained with.
        batch_size: training images in a batch.
        workers: processes that load images; 0 to load in the main process.
        validations: how often the selection images are measured during the training.
        max_accuracy_drop: stop where more than this fraction of the selection images' accuracy is lost.
        fsr_images: heatmaps are measured on so many random test images; None: on all.
        aopc_images: AOPC curves are measured on so many of them; 0: none.
        faithful_images: on so many of them it is measured whether heatmaps are faithful, which the deceptive rate
            needs; 0: none.
        accuracy_margin: the accuracy counts as kept where the 95 % interval of its drop lies below; as a fraction of 1.
        nulls: networks whose heatmaps are controls, which say what the FSR would be without an attack:
            `honest_finetune` (what `fool` with `fool_weight=0` returns as `model`) and `independent` (trained with
            another seed); the controls that need no further network are computed in any case.
        clip: norm that a step's gradient is scaled down to; None: not clipped.
        seed: of the split, the order of the images and everything random; the same seed gives the same network.
        accelerator: Lightning's word for the device: `auto`, `cpu` or `gpu`.
        progress: whether a progress bar is shown.

    Returns:
        the manipulated network (`model`), the metrics, and `heatmaps(images)` and `save(folder)`.

    Raises:
        AdvfoolError: something does not exist or does not fit; the message says what to do.
        Diverged: the training destroyed the classifier.

    >>> import advfool, torch
    >>> network = torch.nn.Sequential(
    ...     torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, padding=1),
    ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3))
    >>> images, labels = torch.rand(40, 1, 12, 16), torch.arange(40) % 3
    >>> result = advfool.fool(network, (images, labels), interp="simplegrad", steps=2, validations=1,
    ...     max_accuracy_drop=1, accelerator="cpu", progress=False)
    >>> sorted(result.heatmaps(images[:2]))
    ['manipulated', 'original']
    """
    chosen = chosen_fooling(fooling)  # an error about a value comes before any work
    pl.seed_everything(seed, workers=True, verbose=False)
    original = copy_of_classifier(model, output)
    data = prepare_data(original, dataset, selection, test, groups, classes, seed, batch_size, workers)
    shape = data.input.shape
    aopc = AOPCSettings(aopc_images, 50, max(1, min(shape[1:]) // 14), seed=seed)
    faithful = FaithfulnessSettings(faithful_images, seed=seed)
    margin = AccuracySettings(accuracy_margin)
    settings = Settings(target if data.has_labels else "predicted", seed, fsr_images, aopc, faithful, accuracy=margin)
    attacked = [interp] if isinstance(interp, str | Interpreter) else list(interp)
    if not attacked:
        raise AdvfoolError("interp must be a name, an object or a list of at least one of them, got an empty list.")
    interpreters = chosen_interpreters([*attacked, *evaluate_with], original, shape, layer)
    name = type(model).__name__
    setup = assemble(data, original, interpreters, chosen, settings, len(attacked), model=name, target_layer=layer)
    setup = with_controls(setup, copies_of_controls(nulls, output))
    training = Training(
        preserve=_preserve(preserve, temperature, data.has_labels),
        optimizer=partial(torch.optim.Adam, lr=lr),
        scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=lr, total_steps=steps, cycle_momentum=False),
        fool_weight=fool_weight,
        train_target_top=train_target_top,
        trainable=trainable,
        cache_original=False,
    )
    with tempfile.TemporaryDirectory(prefix="advfool-") as folder:
        best = ModelCheckpoint(folder, "best", monitor="val/score", mode="max", enable_version_counter=False)
        callbacks, every = [best, DivergenceGuard(max_accuracy_drop)], max(1, steps // validations)
        trainer = steps_trainer(folder, steps, every, callbacks, clip, accelerator, progress)
        return run_fooling(setup, training, trainer, measuring_trainer(accelerator, progress))


def run_fooling(
    setup: Setup,
    training: Training,
    trainer: Trainer,
    measuring: Trainer | Callable[[], Trainer],
    checkpoint: Path | None = None,
    finished: Callable[[nn.Module], object] | None = None,
) -> FoolingResult:
    """Fine-tune the original network of a setup and compare both; the command line and `fool` both call this.

    Args:
        setup: the original network, data, interpreters, fooling and settings.
        training: how the network is fine-tuned.
        trainer: trains.
        measuring: a trainer that measures afterwards, or what makes one when the training has ended.
        checkpoint: resume from this checkpoint; None: start.
        finished: called with the manipulated network before it is measured.
    """
    keep_freed_memory()
    gate = gate_of(setup)
    tuned = finetune(setup, training, trainer, checkpoint)
    if finished:
        finished(tuned.network)
    measurer = measuring if isinstance(measuring, Trainer) else measuring()
    selection = measure_selection(setup, tuned.network, measurer)  # all choices are made
    compared = run_comparison(setup, tuned.network, measurer)
    metrics = compared.metrics | {
        **gate,
        "selection": selection,
        "test_images": ONCE,
        "interp": setup.attacked_name,
        "preserve": training.preserve.name,
        "fool_weight": training.fool_weight,
        "original_sha256": setup.original_sha256,
        "train_seconds": round(tuned.seconds, 2),
        "steps": tuned.steps,
    }
    return FoolingResult(setup.original, tuned.network, metrics, setup, compared.results)


def _preserve(preserve: str | Preserve, temperature: float, has_labels: bool) -> Preserve:
    if isinstance(preserve, Preserve):
        return preserve
    known: Mapping[str, Preserve] = {
        "distillation": Distillation(temperature, name="distillation"),
        "cross_entropy": CrossEntropy(name="cross_entropy"),
    }
    if preserve == "cross_entropy" and not has_labels:
        raise AdvfoolError(
            "preserve=cross_entropy needs labels, which the data set lacks. Use preserve='distillation'."
        )
    return known[preserve]
