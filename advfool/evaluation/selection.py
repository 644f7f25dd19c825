"""Numbers on the selection images, which everything is chosen by: test images are opened once, at the end."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from pytorch_lightning import Trainer
from torch import Tensor, nn

from advfool.evaluation.comparison import Results, compare_networks
from advfool.evaluation.paired import NETWORKS, PAIR
from advfool.evaluation.rows import Table
from advfool.evaluation.setup import AOPCSettings, Setup
from advfool.metrics.functional import fooling_success_rate

T = TypeVar("T")
ONCE = {"opened": "once, after training", "chosen_by": "selection images"}  # what metrics.json says of the test images
AGAIN = {"opened": "again, by this evaluation", "chosen_by": "nothing is chosen"}
IMAGES = 128  # on which the deceptive rate is measured, at most: a search repeats it for every run


def measure_selection(setup: Setup, manipulated: nn.Module, trainer: Trainer) -> dict[str, Any]:
    """Measure what a search compares runs by, on the selection images alone.

    Args:
        setup: what is compared, and how.
        manipulated: the manipulated network, with the weights that were chosen.
        trainer: runs the comparison.

    Returns:
        the FSR and, where faithfulness is measured, the deceptive rate of each attacked one (for active fooling of
        both classes; None where no image has an honest explanation to lose), the top-1 accuracy of both networks and
        its drop, as fractions of 1, and the numbers of images.
    """
    images = min(setup.settings.faithfulness.images, IMAGES)
    own, results = compared_on_selection(setup, manipulated, trainer, images)
    top1 = {name: _mean(results.images[f"top1/{name}"]) for name in NETWORKS}
    return {
        "fsr": {each.name: _each_class(own, partial(_fsr, results.explained, own, each.name)) for each in own.attacked},
        **_deception(results.explained, own),
        "accuracy": {**top1, "drop": top1["original"] - top1["manipulated"]},
        "n_images": len(results.images["index"]),
        "n_images_fsr": len(results.explained["index"]),
    }


def compared_on_selection(setup: Setup, manipulated: nn.Module, trainer: Trainer, images: int) -> tuple[Setup, Results]:
    """Compare both networks on the selection images, by the attacked interpreters alone and without AOPC curves.

    Args:
        setup: what is compared, and how.
        manipulated: the manipulated network.
        trainer: runs the comparison.
        images: number of images on which it is measured whether heatmaps are faithful.

    Returns:
        what was compared, and the rows.
    """
    faithfulness = replace(setup.settings.faithfulness, images=images)
    own = replace(
        setup,
        interpreters={interpreter.name: interpreter for interpreter in setup.attacked},
        settings=replace(setup.settings, aopc=AOPCSettings(), faithfulness=faithfulness),
    )
    return own, compare_networks(own, manipulated, trainer, "selection")


def _each_class(setup: Setup, measure: Callable[..., T]) -> T | dict[str, T]:
    """Measure something once or, for active fooling, of each of both classes."""
    return {which: measure(which) for which in PAIR} if setup.pair else measure()


def _fsr(explained: Table, setup: Setup, interp: str, *last: str) -> float:
    column = "/".join(("test_loss", interp, "manipulated", *last))
    return _mean(fooling_success_rate(explained[column], setup.fooling.interval))


def _deception(explained: Table, setup: Setup) -> dict[str, Any]:
    """Read the deceptive rate and the number of images that it is a share of; nothing where it was not measured."""
    if not any(column.startswith("deceived/") for column in explained):
        return {}

    def known(name: str, *last: str) -> Tensor:
        column = explained["/".join(("deceived", name, *last))]
        return column[~column.isnan()]

    def rate(*last: str) -> float | None:
        return _mean(known(*last)) if len(known(*last)) else None

    def count(*last: str) -> int:
        return len(known(*last))

    names = [interpreter.name for interpreter in setup.attacked]

    return {
        "deceptive_rate": {name: _each_class(setup, partial(rate, name)) for name in names},
        "n_deceptive": {name: _each_class(setup, partial(count, name)) for name in names},
        "n_images_faithfulness": min(setup.settings.faithfulness.images, len(explained["index"])),
    }


def _mean(values: Tensor) -> float:
    return values.double().mean().item()
