"""Figures 5(b) and 7 to 10: heatmaps, test loss and accuracy during the fine-tuning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from safetensors.torch import load_file
from torch import Tensor

from advfool.evaluation.paired import NETWORKS
from advfool.reporting.paper.tables import BESIDE
from advfool.reporting.runs import Run
from advfool.training.history import read_history
from advfool.utilities.files import SNAPSHOTS
from advfool.utilities.plotting import (
    FOOLED,
    draw_heatmap,
    draw_rates,
    evenly_spaced,
    finish,
    grid_of_axes,
    loss_label,
    new_figure,
    save_figure,
)

SHOWN = 9  # steps whose heatmaps are drawn


def by_iteration(runs: Sequence[Run]) -> dict[str, Any]:
    """Collect what was measured during the fine-tuning of each run.

    Args:
        runs: finished, with snapshots.

    Returns:
        by the run's name: final rates, and under `looks` the accuracy and, for each interpreter, FSR and test loss of
        the selection images at each validation; under `kept_images` the mean test loss of the snapshots' images.
    """
    result = {}
    for run in runs:
        metrics, logged = run.results, read_history(run.folder)
        validations = {name: values for name, values in logged.items() if name.startswith("val/")}
        result[run.name] = {
            "fooling": run.fooling,
            "interval": metrics["interval"],
            "top5": {network: metrics["accuracy"][network]["top5"] for network in NETWORKS},
            "top1": {network: metrics["accuracy"][network]["top1"] for network in NETWORKS},
            **{key: metrics[key] for key in ("fsr", *BESIDE.values()) if key in metrics},
            "test_loss": metrics["test_loss"],
            "looks": {name: {"steps": s.tolist(), "values": v.tolist()} for name, (s, v) in validations.items()},
            "kept_images": _of_snapshots(run),
        }
    return result


def _of_snapshots(run: Run) -> dict[str, Any]:
    snapshots = load_file(run.folder / SNAPSHOTS)
    losses = {
        name.removeprefix("test_loss/"): [None if value != value else value for value in found.nanmean(dim=1).tolist()]
        for name, found in snapshots.items()
        if name.startswith("test_loss/")
    }
    return {"steps": snapshots["steps"].tolist(), "test_loss": losses}


def draw_iterations(path: Path, run: Run, image: int = 0) -> None:
    """Draw test losses and rates by step above, the heatmaps of one image below.

    Above, the test losses are those of the snapshots' images. Below, each interpreter has a row, and each heatmap its
    test loss.

    Args:
        path: the file to write.
        run: finished, with snapshots.
        image: which of the snapshots' images is shown.
    """
    snapshots, interval = load_file(run.folder / SNAPSHOTS), run.results["interval"]
    steps = snapshots["steps"].tolist()
    interps = [name.removeprefix("maps/") for name in snapshots if name.startswith("maps/")]
    shown = evenly_spaced(len(steps), SHOWN)
    figure = new_figure(1.25 * len(shown) + 0.6, 2.6 + 1.5 * len(interps))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.6, 1.5 * len(interps)])[:, 0]
    left, right = above.subplots(1, 2)
    _losses(left, steps, {interp: snapshots[f"test_loss/{interp}"] for interp in interps}, interval)
    draw_rates(right, read_history(run.folder))
    finish(right, size=7)
    axes = grid_of_axes(below, len(interps), len(shown))
    for line, interp in zip(axes, interps, strict=True):
        line[0].set_ylabel(interp, fontsize=8)
        for axis, at in zip(line, shown, strict=True):
            draw_heatmap(axis, snapshots[f"maps/{interp}"][at, image])
            axis.set_xlabel(loss_label(snapshots[f"test_loss/{interp}"][at, image].item(), interval), fontsize=8)
    for axis, at in zip(axes[0], shown, strict=True):
        axis.set_title(f"step {steps[at]}", fontsize=8)
    save_figure(figure, path)


def _losses(axis: Axes, steps: Sequence[int], losses: Mapping[str, Tensor], interval: Sequence[float]) -> None:
    """Draw the test loss of each image in a thin line, their mean in a thick one."""
    for number, (interp, values) in enumerate(losses.items()):
        colour = f"C{number}"
        axis.plot(steps, values.numpy(), color=colour, alpha=0.45, lw=1)
        axis.plot(steps, values.nanmean(dim=1).numpy(), color=colour, lw=2, label=interp)
    axis.axhspan(interval[0], interval[1], color=FOOLED, alpha=0.12, lw=0, label="counts as fooled")
    values = np.concatenate([found.numpy().ravel() for found in losses.values()])
    axis.set(
        xlabel="step",
        ylabel="test loss of the images shown",
        ylim=(min(0, np.nanmin(values)), np.nanmax(values) * 1.05),
    )
    finish(axis, size=7)
