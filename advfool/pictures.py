"""The pictures a run ends with: heatmaps before and after, and the course of the training."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from advfool.data.base import InputFormat, Sample
from advfool.heatmaps import resize
from advfool.interpreters.base import Interpreter
from advfool.recording import record

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BRIGHTEST = 0.998  # share of pixels that the colours tell apart: maps at the images have a few extreme ones
SIGNED = "RdBu_r"
HEAT = "inferno"  # perceptually even, safe for colour-blind readers


@torch.no_grad()
def heatmaps_picture(
    path: Path,
    samples: Sequence[Sample],
    networks: dict[str, nn.Module],
    interpreter: Interpreter,
    input: InputFormat,
    labels: Sequence[str],
    target: str,
) -> None:
    """Rows: the image, then the heatmap of each network over it, with its prediction and confidence below."""
    images = torch.stack([sample.image for sample in samples])
    targets = torch.stack([torch.as_tensor(sample.label) for sample in samples])
    recordings = {name: record(network, images, [interpreter]) for name, network in networks.items()}
    if target == "predicted":
        targets = next(iter(recordings.values())).logits.argmax(dim=1)
    pixels = input.pixels(images).permute(0, 2, 3, 1).numpy()

    rows, columns = 1 + len(networks), len(samples)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.75 * columns + 1.1, 2.05 * rows + 0.5), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for column in range(columns):
        axes[0, column].imshow(pixels[column])
        axes[0, column].set_title(_short(labels[targets[column]]), fontsize=9)
    axes[0, 0].set_ylabel("image", fontsize=9)
    for row, (name, recording) in enumerate(recordings.items(), start=1):
        heat = resize(interpreter.read(recording, targets).float(), tuple(images.shape[-2:])).numpy()
        confidence, prediction = recording.logits.float().softmax(dim=1).max(dim=1)
        axes[row, 0].set_ylabel(f"{interpreter.name}\n{name}", fontsize=9)
        for column in range(columns):
            grey = pixels[column].mean(axis=2)
            axes[row, column].imshow(grey, cmap="gray", vmin=0, vmax=1)
            shown = axes[row, column].imshow(heat[column], cmap=HEAT, vmin=0, vmax=1, alpha=0.65)
            right = prediction[column] == targets[column]
            axes[row, column].set_xlabel(
                f"{_short(labels[prediction[column]])} {confidence[column]:.0%}{'' if right else ' (wrong)'}",
                fontsize=8,
            )
    figure.colorbar(shown, ax=axes[1:, :], label="relevance (each map's maximum is 1)", shrink=0.7, pad=0.01)
    figure.savefig(path, dpi=110)
    plt.close(figure)


class GalleryRow(NamedTuple):
    """One network's maps of one image, by interpreter; pixels in [0, 1]."""

    network: str
    pixels: Float[Tensor, "3 h w"]
    target: str
    prediction: str
    maps: dict[str, Tensor | None]  # None: the interpreter has none for this network


def gallery_picture(path: Path, rows: Sequence[GalleryRow]) -> None:
    """Rows: networks. Columns: the image, then the heatmap of each interpreter over it; signed ones red and blue."""
    names = list(rows[0].maps)
    figure, axes = plt.subplots(
        len(rows),
        1 + len(names),
        figsize=(1.45 * (1 + len(names)) + 0.4, 1.75 * len(rows) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for line, row in zip(axes, rows, strict=True):
        pixels = row.pixels.permute(1, 2, 0).numpy()
        line[0].imshow(pixels)
        line[0].set_ylabel(_short(row.network), fontsize=9)
        line[0].set_xlabel(f"{_short(row.prediction)}\nexplained: {_short(row.target)}", fontsize=8)
        for axis, name in zip(line[1:], names, strict=True):
            if row.maps[name] is None:
                axis.set_box_aspect(pixels.shape[0] / pixels.shape[1])
                axis.text(0.5, 0.5, "none", ha="center", va="center", transform=axis.transAxes, fontsize=9)
                continue
            heat = resize(row.maps[name][None].float(), pixels.shape[:2])[0].numpy()
            signed = heat.min() < 0
            top = max(np.quantile(abs(heat), BRIGHTEST), 1e-12)
            axis.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=1)
            axis.imshow(heat, cmap=SIGNED if signed else HEAT, vmin=-top if signed else 0, vmax=top, alpha=0.7)
    for axis, name in zip(axes[0], ["image", *names], strict=True):
        axis.set_title(name, fontsize=9)
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


def _short(label: str | Tensor, limit: int = 18) -> str:
    label = str(label)
    return label if len(label) <= limit else label[: limit - 1] + "…"
