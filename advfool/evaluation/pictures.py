"""Pictures of an evaluation, and of several interpreters on several networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advfool.data.samples import ImageFormat, Sample
from advfool.evaluation.paired import record_pair
from advfool.interpreters.base import Interpreter
from advfool.utilities.plotting import (
    COLOURS,
    curve_label,
    draw_heatmap,
    draw_image,
    finish,
    grid_of_axes,
    is_signed,
    new_figure,
    save_figure,
    short,
)


@torch.no_grad()
def heatmaps_picture(
    path: Path,
    samples: Sequence[Sample],
    networks: Mapping[str, nn.Module],
    interpreter: Interpreter,
    input: ImageFormat,
    labels: Sequence[str],
    target: str,
) -> None:
    """Draw a few images and below each the heatmap of every network, with its prediction and confidence.

    Images are in columns. Composites have a row for each of their two classes. Where any heatmap has negative values,
    all are drawn in red and blue.

    Args:
        path: the file to write.
        samples: the images, on the networks' device.
        networks: by name, `original` among them.
        interpreter: makes the heatmaps.
        input: how the networks take images.
        labels: the names of the classes.
        target: the explained class, `label` or `predicted` (by the original network).
    """
    images = torch.stack([sample.image for sample in samples])
    own = torch.stack([torch.as_tensor(sample.label) for sample in samples])
    pair = record_pair(networks, images, own, [interpreter], target)
    pixels = input.pixels(images).cpu()
    classes = pair.targets if pair.targets.dim() == 2 else pair.targets[:, None]
    maps = {name: found if found.dim() == 4 else found[:, None] for name, found in pair.maps(interpreter).items()}
    signed = any(is_signed(found) for found in maps.values())

    lines = [(name, which) for name in networks for which in range(classes.shape[1])]
    rows, columns = 1 + len(lines), len(samples)
    figure = new_figure(1.75 * columns + 1.1, 2.05 * rows + 0.5)
    axes = grid_of_axes(figure, rows, columns)
    for column in range(columns):
        draw_image(axes[0, column], pixels[column])
        axes[0, column].set_title(" and ".join(short(labels[c]) for c in classes[column].tolist()), fontsize=9)
    axes[0, 0].set_ylabel("image", fontsize=9)
    drawn = None
    for row, (name, which) in enumerate(lines, start=1):
        confidence, prediction = pair.logits[name].float().softmax(dim=1).max(dim=1)
        explained = f" of {short(labels[int(classes[0, which])])}" if classes.shape[1] > 1 else ""
        axes[row, 0].set_ylabel(f"{interpreter.name}{explained}\n{name}", fontsize=9)
        for column in range(columns):
            drawn = draw_heatmap(axes[row, column], maps[name][column, which], pixels[column], signed)
            right = (prediction[column] == classes[column]).any()
            said = f"{short(labels[int(prediction[column])])} {confidence[column]:.0%}{'' if right else ' (wrong)'}"
            axes[row, column].set_xlabel(said, fontsize=8)
    if drawn is not None:
        lowest = "from -1 to 1" if signed else "from 0 to 1"
        figure.colorbar(drawn, ax=axes[1:, :], label=f"relevance, each heatmap {lowest}", shrink=0.7, pad=0.01)
    save_figure(figure, path)


def aopc_picture(path: Path, curves: Mapping[tuple[str, str, str], Sequence[float]]) -> None:
    """Draw AOPC curves, with a panel for each interpreter.

    Args:
        path: the file to write.
        curves: by (interpreter, network, whose heatmap gives the order); curves in random order have no interpreter
            (an empty name) and appear in every panel.

    Source: Heo et al. 2019, Figure 4(a).
    """
    interps = list(dict.fromkeys(interp for interp, _, _ in curves if interp))
    figure = new_figure(1 + 4.6 * len(interps), 4)
    axes = figure.subplots(1, len(interps), squeeze=False, sharey=True)
    for axis, interp in zip(axes[0], interps, strict=True):
        for (own, network, source), points in curves.items():
            if own in (interp, ""):
                line = "-" if network == "original" else "--"
                axis.plot(points, color=COLOURS[source], ls=line, label=curve_label(network, source))
        axis.set(title=interp, xlabel="regions replaced")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("mean decrease of the class's probability")
    finish(axes[0, -1])
    save_figure(figure, path)


class GalleryRow(NamedTuple):
    """The heatmaps of one network for one image.

    Args:
        network: its name.
        pixels: the image, with values from 0 to 1.
        target: the explained class.
        prediction: what the network predicts.
        maps: heatmaps by interpreter; None where an interpreter cannot explain this network.
    """

    network: str
    pixels: Float[Tensor, "channels h w"]
    target: str
    prediction: str
    maps: dict[str, Tensor | None]


def gallery_picture(path: Path, rows: Sequence[GalleryRow]) -> None:
    """Draw the heatmaps of several interpreters on several networks: networks in rows, interpreters in columns.

    Args:
        path: the file to write.
        rows: one for each network, all with the same interpreters.
    """
    names = list(rows[0].maps)
    figure = new_figure(1.45 * (1 + len(names)) + 0.4, 1.75 * len(rows) + 0.4)
    axes = grid_of_axes(figure, len(rows), 1 + len(names))
    for line, row in zip(axes, rows, strict=True):
        draw_image(line[0], row.pixels)
        line[0].set_ylabel(short(row.network), fontsize=9)
        line[0].set_xlabel(f"{short(row.prediction)}\nexplained: {short(row.target)}", fontsize=8)
        for axis, name in zip(line[1:], names, strict=True):
            heatmap = row.maps[name]
            if heatmap is None:
                axis.set_box_aspect(row.pixels.shape[1] / row.pixels.shape[2])
                axis.text(0.5, 0.5, "none", ha="center", va="center", transform=axis.transAxes, fontsize=9)
            else:
                draw_heatmap(axis, heatmap, row.pixels)
    for axis, name in zip(axes[0], ["image", *names], strict=True):
        axis.set_title(name, fontsize=9)
    save_figure(figure, path)
