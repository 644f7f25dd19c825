"""The pictures that an evaluation ends with."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from advfool.data.samples import InputFormat, Sample
from advfool.interpreters.base import Interpreter
from advfool.interpreters.tracing.recording import record
from advfool.utilities.heatmaps import resize

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
    """Rows: the image, then the heatmap of each network over it, with its prediction and confidence below.

    Composites have a row for each of their two classes.
    """
    images = torch.stack([sample.image for sample in samples])
    labels_of = torch.stack([torch.as_tensor(sample.label) for sample in samples])
    recordings = {name: record(network, images, [interpreter]) for name, network in networks.items()}
    if target == "predicted" and labels_of.dim() == 1:
        labels_of = next(iter(recordings.values())).logits.argmax(dim=1)
    targets = labels_of if labels_of.dim() == 2 else labels_of[:, None]
    pixels = input.pixels(images).permute(0, 2, 3, 1).numpy()

    lines = [(name, recording, which) for name, recording in recordings.items() for which in range(targets.shape[1])]
    rows, columns = 1 + len(lines), len(samples)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.75 * columns + 1.1, 2.05 * rows + 0.5), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for column in range(columns):
        axes[0, column].imshow(pixels[column])
        axes[0, column].set_title(" and ".join(_short(labels[c]) for c in targets[column].tolist()), fontsize=9)
    axes[0, 0].set_ylabel("image", fontsize=9)
    for row, (name, recording, which) in enumerate(lines, start=1):
        heat = resize(interpreter.read(recording, targets[:, which]).float(), tuple(images.shape[-2:])).numpy()
        confidence, prediction = recording.logits.float().softmax(dim=1).max(dim=1)
        shown_class = f" of {_short(labels[targets[0, which]])}" if targets.shape[1] > 1 else ""
        axes[row, 0].set_ylabel(f"{interpreter.name}{shown_class}\n{name}", fontsize=9)
        for column in range(columns):
            grey = pixels[column].mean(axis=2)
            axes[row, column].imshow(grey, cmap="gray", vmin=0, vmax=1)
            shown = axes[row, column].imshow(heat[column], cmap=HEAT, vmin=0, vmax=1, alpha=0.65)
            right = (prediction[column] == targets[column]).any()
            axes[row, column].set_xlabel(
                f"{_short(labels[prediction[column]])} {confidence[column]:.0%}{'' if right else ' (wrong)'}",
                fontsize=8,
            )
    figure.colorbar(shown, ax=axes[1:, :], label="relevance (each map's maximum is 1)", shrink=0.7, pad=0.01)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def aopc_picture(path: Path, curves: dict[tuple[str, str, str], Sequence[float]]) -> None:
    """AOPC curves by (interpreter, network, whose map): a panel for each interpreter, both networks and random in it.

    Source: Heo et al. 2019, Figure 4(a).
    """
    interps = list(dict.fromkeys(interp for interp, _, _ in curves if interp))
    figure, axes = plt.subplots(
        1, len(interps), figsize=(1 + 4.6 * len(interps), 4), squeeze=False, sharey=True, layout="constrained"
    )
    colours = {"original": "#0072b2", "manipulated": "#d55e00", "random": "#555555"}
    for axis, interp in zip(axes[0], interps, strict=True):
        for (own, network, source), points in curves.items():
            if own in (interp, ""):
                label = f"{network} network, {'random order' if source == 'random' else f'map of the {source}'}"
                axis.plot(points, color=colours[source], ls="-" if network == "original" else "--", label=label)
        axis.set(title=interp, xlabel="regions replaced")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("mean fall of the class's probability")
    axes[0, -1].legend(fontsize=8)
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


def _short(label: str | Tensor, limit: int = 18) -> str:
    label = str(label)
    return label if len(label) <= limit else label[: limit - 1] + "…"
