"""How pictures are drawn: the colours and the scale of heatmaps, axes without ticks, short labels.

Pictures are made with `matplotlib.figure.Figure`, which needs neither pyplot nor a backend.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from torch import Tensor

from advfool.utilities.heatmaps import resize
from advfool.utilities.text import printable

BRIGHTEST = 0.998  # share of the values that the colours tell apart: heatmaps at the images have a few extreme ones
SIGNED = "RdBu_r"  # blue for negative relevance, white for 0, red for positive relevance
HEAT = "inferno"  # perceptually even, safe for colour-blind readers
OPACITY = 0.7  # of a heatmap over its image
COLOURS = {"original": "#0072b2", "manipulated": "#d55e00", "random": "#555555"}  # of curves
FOOLED = "#009e73"  # the colour of success rates and of test losses that count as fooled
DPI = 110
TICK = re.compile(r"\$\\mathdefault\{[-\d.,^{}\u2212]*\}\$")  # what matplotlib writes at a logarithmic axis

History = Mapping[str, tuple[np.ndarray, np.ndarray]]  # (steps, values) by the name of a logged quantity


def is_signed(heatmap: Float[Tensor, "*shape"]) -> bool:
    """Tell whether any value of a heatmap, or of several, is negative: such heatmaps are drawn in red and blue."""
    return bool((heatmap < 0).any())


def scale_heatmap(heatmap: Float[Tensor, "h w"], signed: bool) -> np.ndarray:
    """Scale a heatmap by itself for display.

    The scale is the quantile `BRIGHTEST` of the absolute values; values beyond it are clipped, values that are not
    finite become 0.

    Args:
        heatmap: what an interpreter returns for one image.
        signed: whether negative values keep their sign; otherwise they become 0.

    Returns:
        values from -1 to 1 for a signed heatmap, from 0 to 1 for any other.
    """
    values = np.nan_to_num(heatmap.detach().float().cpu().numpy(), nan=0.0, posinf=0.0, neginf=0.0)
    top = max(float(np.quantile(abs(values), BRIGHTEST)), 1e-12)
    return (values / top).clip(-1 if signed else 0, 1)


def draw_heatmap(
    axis: Axes,
    heatmap: Float[Tensor, "_h _w"],
    image: Shaped[Tensor, "c h w"] | None = None,
    signed: bool | None = None,
) -> AxesImage:
    """Draw a heatmap: signed ones in red and blue around 0, others from black over red to yellow.

    Args:
        axis: where to draw.
        heatmap: what an interpreter returns for one image, at its own resolution.
        image: the image, drawn in grey below the heatmap, which is resized to it; bytes, or values from 0 to 1.
        signed: whether the colours are those of signed heatmaps; None: if any value is negative. To be given where
            several heatmaps share one colour bar.

    Returns:
        the drawn heatmap, to which a colour bar can refer.
    """
    heatmap = heatmap.detach().float().cpu()
    if image is not None:
        heatmap = resize(heatmap[None], (image.shape[-2], image.shape[-1]))[0]
        white = 255 if image.dtype == torch.uint8 else 1
        axis.imshow(image.float().mean(dim=0).numpy(), cmap="gray", vmin=0, vmax=white)
    signed = is_signed(heatmap) if signed is None else signed
    return axis.imshow(
        scale_heatmap(heatmap, signed),
        cmap=SIGNED if signed else HEAT,
        vmin=-1 if signed else 0,
        vmax=1,
        alpha=OPACITY if image is not None else None,
    )


def draw_image(axis: Axes, image: Shaped[Tensor, "c h w"]) -> None:
    """Draw an image of three channels in colours, any other one in grey; bytes, or values from 0 to 1."""
    drawn = image if len(image) in (1, 3) else image.float().mean(dim=0, keepdim=True).to(image.dtype)
    axis.imshow(drawn.expand(3, -1, -1).permute(1, 2, 0).numpy())


def grid_of_axes(figure: Figure | SubFigure, rows: int, columns: int) -> np.ndarray:
    """Add a grid of axes without ticks to a figure; returns an array of them, rows first."""
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return axes


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure whose parts do not overlap; width and height are in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Write a figure to a file; its ending, such as `.png`, names the format. Names in it are no formulas."""
    for text in figure.findobj(Text):
        if isinstance(text, Text) and not TICK.fullmatch(text.get_text()):
            text.set_text(printable(text.get_text()).replace("$", r"\$"))
    figure.savefig(path, dpi=dpi)


def evenly_spaced(count: int, most: int) -> list[int]:
    """Choose at most `most` of `count` places, evenly spaced, the first and the last among them.

    >>> evenly_spaced(10, 4), evenly_spaced(2, 4)
    ([0, 3, 6, 9], [0, 1])
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def short(label: object, limit: int = 18) -> str:
    """Cut a long label, so that it fits below a picture.

    >>> short("flat-coated retriever")
    'flat-coated retri…'
    """
    text = str(label)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def loss_label(loss: float, interval: Sequence[float] | None) -> str:
    """Write a test loss, marked where it counts as fooled.

    Args:
        loss: NaN for a degenerate heatmap, which never counts as fooled.
        interval: test losses that count as fooled; None: without a mark.

    >>> loss_label(0.104, (0, 0.2)), loss_label(0.104, None)
    ('0.10 fooled', '0.10')
    """
    fooled = interval is not None and interval[0] <= loss <= interval[1]
    return f"{loss:.2f}{' fooled' if fooled else ''}"


def curve_label(network: str, source: str) -> str:
    """Name an AOPC curve by its network and by whose heatmap gives the order.

    >>> curve_label("manipulated", "original")
    'manipulated network, heatmap of the original'
    """
    return f"{network} network, {'random order' if source == 'random' else f'heatmap of the {source}'}"


def draw_rates(axis: Axes, history: History) -> None:
    """Draw the success rates and the accuracy that were logged during a training.

    Args:
        axis: where to draw.
        history: what was logged; `val/fsr/INTERPRETER` and `val/top1` are drawn.
    """
    for name, (steps, values) in history.items():
        if name.startswith("val/fsr/"):
            axis.plot(steps, values, marker="o", markersize=3, label=f"FSR {name.removeprefix('val/fsr/')}")
        elif name == "val/top1":
            axis.plot(steps, values, marker="s", markersize=3, label="top-1")
    axis.set(xlabel="step", ylabel="share of selection images", ylim=(-0.03, 1.03))


def finish(axis: Axes, size: int = 8) -> None:
    """Add a light grid and, where something is drawn, a legend in letters of this size."""
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=size)


def colours_of(name: str, count: int) -> list[list[int]]:
    """List the colours of a colour map from its lowest to its highest value, as (red, green, blue) from 0 to 255."""
    places = np.linspace(0, 1, count)
    return (matplotlib.colormaps[name](places)[:, :3] * 255).round().astype(int).tolist()
