"""Numbers on the selection images, which everything is chosen by: test images are opened once, at the end."""

from dataclasses import replace
from typing import Any

from pytorch_lightning import Trainer
from torch import Tensor, nn

from advfool.evaluation.comparison import compare_networks
from advfool.evaluation.paired import NETWORKS, PAIR
from advfool.evaluation.setup import AOPCSettings, FaithfulnessSettings, Setup
from advfool.metrics.functional import fooling_success_rate


def measure_selection(setup: Setup, manipulated: nn.Module, trainer: Trainer) -> dict[str, Any]:
    """Measure what a search compares runs by, on the selection images alone.

    Args:
        setup: what is compared, and how.
        manipulated: the manipulated network, with the weights that were chosen.
        trainer: runs the comparison.

    Returns:
        the FSR of the first interpreter (for active fooling of both classes), the top-1 accuracy of both networks and
        its drop, as fractions of 1, and the numbers of images.
    """
    own = replace(
        setup,
        interpreters={setup.trained.name: setup.trained},
        settings=replace(setup.settings, aopc=AOPCSettings(), faithfulness=FaithfulnessSettings(images=0)),
    )
    results = compare_networks(own, manipulated, trainer, "selection")

    def fsr(*last: str) -> float:
        column = "/".join(("test_loss", own.trained.name, "manipulated", *last))
        return _mean(fooling_success_rate(results.explained[column], own.fooling.interval))

    top1 = {name: _mean(results.images[f"top1/{name}"]) for name in NETWORKS}
    return {
        "fsr": {own.trained.name: {which: fsr(which) for which in PAIR} if own.pair else fsr()},
        "accuracy": {**top1, "drop": top1["original"] - top1["manipulated"]},
        "n_images": len(results.images["index"]),
        "n_images_fsr": len(results.explained["index"]),
    }


def _mean(values: Tensor) -> float:
    return values.double().mean().item()
