"""The pictures of the course of a training."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from torch import Tensor

from advfool.evaluation.pictures import HEAT, SIGNED


def snapshots_picture(
    path: Path,
    steps: Sequence[int],
    maps: Float[Tensor, "s n h w"],
    test_loss: Float[Tensor, "s n"],
    interval: Sequence[float],
) -> None:
    """Rows: images. Columns: steps, with each map's test loss below it, marked where it counts as fooled."""
    shown = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 12)).round().astype(int))
    images = maps.shape[1]
    figure, axes = plt.subplots(
        images, len(shown), figsize=(1.25 * len(shown) + 0.6, 1.55 * images + 0.4), squeeze=False, layout="constrained"
    )
    for column, look in enumerate(shown):
        for row in range(images):
            loss = test_loss[look, row].item()
            fooled = interval[0] <= loss <= interval[1]
            top = max(maps[look, row].abs().max().item(), 1e-12)
            signed = maps[look, row].min() < 0
            axis = axes[row, column]
            axis.imshow(maps[look, row], cmap=SIGNED if signed else HEAT, vmin=-top if signed else 0, vmax=top)
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(f"{loss:.2f}{' fooled' if fooled else ''}", fontsize=8)
        axes[0, column].set_title(f"step {steps[look]}", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def training_picture(path: Path, history: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Both losses by step above, success rates and accuracy on the selection images below.

    history: (steps, values) by the name they were logged under.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
    for name, label in (("train/preserve", "preserve"), ("train/penalty", "fooling penalty")):
        if name in history:
            above.plot(*history[name], label=label)
    above.set(ylabel="training loss", yscale="log")
    for name, (steps, values) in history.items():
        if name.startswith("val/fsr/"):
            below.plot(steps, values, marker="o", markersize=3, label=f"FSR {name.removeprefix('val/fsr/')}")
        elif name == "val/top1":
            below.plot(steps, values, marker="s", markersize=3, label="top-1")
    below.set(xlabel="step", ylabel="share of selection images", ylim=(-0.03, 1.03))
    for axis in (above, below):
        axis.grid(alpha=0.3)
        if axis.has_data():
            axis.legend(fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
