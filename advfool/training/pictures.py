"""Pictures of the course of a training."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from advfool.utilities.plotting import (
    History,
    draw_heatmap,
    draw_rates,
    evenly_spaced,
    finish,
    grid_of_axes,
    loss_label,
    new_figure,
    save_figure,
)

SHOWN = 12  # steps, at most
LOSSES = {"train/preserve": "preserve", "train/penalty": "fooling penalty"}


def snapshots_picture(
    path: Path,
    steps: Sequence[int],
    maps: Float[Tensor, "s n h w"],
    test_loss: Float[Tensor, "s n"],
    interval: Sequence[float],
) -> None:
    """Draw how the heatmaps of a few images change during a training: images in rows, steps in columns.

    Args:
        path: the file to write.
        steps: the optimizer steps that the heatmaps were kept at.
        maps: the heatmaps, by step and image.
        test_loss: of each heatmap; written below it.
        interval: test losses that count as fooled; they are marked.
    """
    shown, images = evenly_spaced(len(steps), SHOWN), maps.shape[1]
    figure = new_figure(1.25 * len(shown) + 0.6, 1.55 * images + 0.4)
    axes = grid_of_axes(figure, images, len(shown))
    for column, at in enumerate(shown):
        for row in range(images):
            draw_heatmap(axes[row, column], maps[at, row])
            axes[row, column].set_xlabel(loss_label(test_loss[at, row].item(), interval), fontsize=8)
        axes[0, column].set_title(f"step {steps[at]}", fontsize=9)
    save_figure(figure, path)


def training_picture(path: Path, history: History) -> None:
    """Draw both parts of the loss by step above, success rates and accuracy on the selection images below.

    Args:
        path: the file to write.
        history: what was logged.
    """
    figure = new_figure(7, 6)
    above, below = figure.subplots(2, 1, sharex=True)
    for name, label in LOSSES.items():
        if name in history:
            above.plot(*history[name], label=label)
    above.set(ylabel="training loss", yscale="log")
    draw_rates(below, history)
    for axis in (above, below):
        finish(axis, size=9)
    save_figure(figure, path)
