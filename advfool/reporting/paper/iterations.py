"""Figures 5(b) and 7 to 10: maps, test loss and accuracy in the course of the fine-tuning."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from advfool.reporting.paper.grids import HEAT, SIGNED
from advfool.reporting.runs import Run
from advfool.training.callbacks import SNAPSHOTS
from advfool.training.history import read_history

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SHOWN = 9  # steps whose maps are drawn


def by_iteration(runs: Sequence[Run]) -> dict:
    """For each run what was measured at each look: accuracy and, for each interpreter, FSR and test loss (of the
    selection images, and the mean of the images whose maps were kept)."""
    result = {}
    for run in runs:
        history = read_history(run.folder)
        looks = {name: values for name, values in history.items() if name.startswith("val/")}
        result[run.name] = {
            "fooling": run.fooling,
            "interval": run.metrics["interval"],
            "top5": {network: run.metrics["accuracy"][network]["top5"] for network in ("original", "manipulated")},
            "top1": {network: run.metrics["accuracy"][network]["top1"] for network in ("original", "manipulated")},
            "fsr": run.metrics["fsr"],
            "test_loss": run.metrics["test_loss"],
            "looks": {name: {"steps": s.tolist(), "values": v.tolist()} for name, (s, v) in looks.items()},
            "kept_images": _of_kept_images(run),
        }
    return result


def _of_kept_images(run: Run) -> dict:
    kept = load_file(run.folder / SNAPSHOTS)
    losses = {
        name.removeprefix("test_loss/"): [None if value != value else value for value in found.nanmean(dim=1).tolist()]
        for name, found in kept.items()
        if name.startswith("test_loss/")
    }
    return {"steps": kept["steps"].tolist(), "test_loss": losses}


def draw_iterations(path: Path, run: Run, image: int = 0) -> None:
    """Above: test loss of the kept images (with the interval that counts as fooled), accuracy and FSR by step; below:
    one image's maps, a row for each interpreter, with their test loss. The run has kept snapshots.
    """
    kept = load_file(run.folder / SNAPSHOTS)
    steps = kept["steps"].tolist()
    interps = [name.removeprefix("maps/") for name in kept if name.startswith("maps/")]
    shown = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), SHOWN)).round().astype(int))
    figure = plt.figure(figsize=(1.25 * len(shown) + 0.6, 2.6 + 1.5 * len(interps)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[2.6, 1.5 * len(interps)])
    left, right = above.subplots(1, 2)
    _losses(left, steps, {interp: kept[f"test_loss/{interp}"] for interp in interps}, run.metrics["interval"])
    _rates(right, read_history(run.folder))
    axes = below.subplots(len(interps), len(shown), squeeze=False)
    for line, interp in zip(axes, interps, strict=True):
        line[0].set_ylabel(interp, fontsize=8)
        for axis, look in zip(line, shown, strict=True):
            heat = kept[f"maps/{interp}"][look, image].float()
            top, signed = max(heat.abs().max().item(), 1e-12), heat.min() < 0
            axis.imshow(heat, cmap=SIGNED if signed else HEAT, vmin=-top if signed else 0, vmax=top)
            loss = kept[f"test_loss/{interp}"][look, image].item()
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(f"{loss:.2f}{' fooled' if _inside(loss, run.metrics['interval']) else ''}", fontsize=8)
    for axis, look in zip(axes[0], shown, strict=True):
        axis.set_title(f"step {steps[look]}", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _losses(axis: plt.Axes, steps: Sequence[int], losses: Mapping[str, Tensor], interval: Sequence[float]) -> None:
    for number, (interp, values) in enumerate(losses.items()):
        colour = f"C{number}"
        axis.plot(steps, values.numpy(), color=colour, alpha=0.45, lw=1)
        axis.plot(steps, values.nanmean(dim=1).numpy(), color=colour, lw=2, label=interp)
    axis.axhspan(*interval, color="#009e73", alpha=0.12, lw=0, label="counts as fooled")
    values = np.concatenate([found.numpy().ravel() for found in losses.values()])
    axis.set(
        xlabel="step", ylabel="test loss of the kept images", ylim=(min(0, np.nanmin(values)), np.nanmax(values) * 1.05)
    )
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)


def _rates(axis: plt.Axes, history: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    for name, (steps, values) in history.items():
        if name == "val/top1" or name.startswith("val/fsr/"):
            label = "top-1" if name == "val/top1" else f"FSR {name.removeprefix('val/fsr/')}"
            axis.plot(steps, values, marker="o", ms=3, label=label)
    axis.set(xlabel="step", ylabel="share of selection images", ylim=(-0.03, 1.03))
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)


def _inside(value: float, interval: Sequence[float]) -> bool:
    return interval[0] <= value <= interval[1]
