"""The images and heatmaps of the page: images as WebP, heatmaps as bytes that the page's script colours.

They are as large as a budget for the whole page allows, so that a hundred runs still fit.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from math import isnan
from typing import Any

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from advfool.evaluation.examples import Example, Examples, lower_is_better, read_examples
from advfool.evaluation.paired import NETWORKS
from advfool.metrics.functional import is_fooled
from advfool.reporting import wording
from advfool.reporting.runs import Run
from advfool.utilities.plotting import HEAT, SIGNED, colours_of, is_signed, scale_heatmap

SIDES = (224, 112, 56, 28, 14)  # of heatmaps on the page; the largest that fits is used
MAPS_BUDGET = 5_000_000  # bytes of all heatmaps together, before base64 adds a third
PICTURE_SIDES = (224, 160, 112, 80)
PICTURES_BUDGET = 3_000_000
QUALITY = 85  # of WebP
STOPS = 33  # colours of a scale; the page interpolates between them


class Gallery:
    """Collects the example images of all runs; images that several runs share are stored once.

    Args:
        runs: all that the page shows: their number decides how large images and heatmaps can be.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        sizes = [size for run in runs if (found := read_examples(run.folder)) for size in _sizes(found)]
        self.side = fitting_side([size for kind, size in sizes if kind == "map"], SIDES, MAPS_BUDGET)
        pixels = [size for kind, size in sizes if kind == "image"]
        self.picture_side = fitting_side(pixels, PICTURE_SIDES, 8 * PICTURES_BUDGET)  # WebP: at most 1 bit a pixel
        self.pictures: dict[str, int] = {}  # data URI: its number

    def add(self, run: Run) -> dict[str, Any] | None:
        """Encode the examples of a run, from the best to the worst test loss; None where there are none."""
        found = read_examples(run.folder)
        if found is None:
            return None
        signed = {interp: _is_signed(found, interp) for interp in found.interps}
        return {
            "interps": [
                {"name": interp, "label": wording.interp(interp), "signed": signed[interp]} for interp in signed
            ],
            "interval": list(found.interval),
            "images": [self._image(found, row, signed) for row in from_best_to_worst(found)],
        }

    def _image(self, found: Examples, row: int, signed: dict[str, bool]) -> dict[str, Any]:
        about: Example = found.rows[row]
        return {
            "picture": self.pictures.setdefault(picture(found.images[row], self.picture_side), len(self.pictures)),
            "index": about.index,
            "title": f"test {about.kind} {about.index}",
            "path": about.path,
            "label": about.label,
            "explained": about.explained,
            "roles": about.roles,
            "predictions": {name: list(said) for name, said in about.predictions.items()},
            "maps": {interp: self._maps(found, row, interp, signed[interp]) for interp in found.interps},
        }

    def _maps(self, found: Examples, row: int, interp: str, signed: bool) -> list[dict[str, Any]]:
        """Encode the heatmaps of both networks and their test losses, for each explained class."""
        maps = {name: found.maps[interp, name][row].float() for name in NETWORKS}
        losses = {name: found.test_loss[interp, name][row] for name in NETWORKS}
        classes = []
        for c in range(len(maps["original"])):
            own: dict[str, Any] = {"loss": [_rounded(losses[name][c].item()) for name in NETWORKS]}
            own["fooled"] = is_fooled(losses["manipulated"][c], found.interval).item()
            own |= {name: encoded_map(maps[name][c], self.side, signed) for name in NETWORKS}
            own["size"] = list(shrunk(maps["original"][c], self.side).shape)
            classes.append(own)
        return classes


def from_best_to_worst(found: Examples) -> list[int]:
    """Sort the rows by the test loss of the interpreter trained with; degenerate heatmaps come last."""
    loss = found.test_loss[found.interps[0], "manipulated"].double().mean(dim=1)
    return (loss if lower_is_better(found.interval) else -loss).argsort(stable=True).tolist()


def fitting_side(sizes: Sequence[tuple[int, int]], sides: Sequence[int], budget: int) -> int:
    """Choose the largest side at which all heatmaps or images together fit into a budget.

    Args:
        sizes: (height, width) of each; what is larger than the side is reduced to it.
        sides: to choose from, the largest first.
        budget: number of values that all can have together.

    Returns:
        the side; the smallest one where none fits.

    >>> fitting_side([(56, 56)] * 10, (112, 56, 28), 10_000)
    28
    """
    for side in sides:
        if sum(min(height, side) * min(width, side) for height, width in sizes) <= budget:
            return side
    return sides[-1]


def picture(image: UInt8[Tensor, "3 h w"], side: int) -> str:
    """Encode an image, reduced to at most `side` pixels a side, as a data address with a WebP file."""
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    pixels.thumbnail((side, side))
    file = io.BytesIO()
    pixels.save(file, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{_base64(file.getvalue())}"


def encoded_map(heatmap: Float[Tensor, "h w"], side: int, signed: bool) -> str:
    """Encode a heatmap as bytes in base64, scaled as in the run's pictures.

    Args:
        heatmap: of one image.
        side: larger heatmaps are averaged down to it.
        signed: whether negative values count; 0 then becomes 128, and the bytes run from 1 to 255. Otherwise 0 stays 0
            and the largest value becomes 255.
    """
    scaled = scale_heatmap(shrunk(heatmap, side), signed)
    return _base64((scaled * 127 + 128 if signed else scaled * 255).round().astype(np.uint8).tobytes())


def shrunk(heatmap: Float[Tensor, "h w"], side: int) -> Float[Tensor, "h2 w2"]:
    """Average a heatmap down where it is larger than `side`."""
    height, width = heatmap.shape
    size = (min(height, side), min(width, side))
    return F.adaptive_avg_pool2d(heatmap[None], size)[0] if size != (height, width) else heatmap


def colour_scales() -> dict[str, list[list[int]]]:
    """List the colours of unsigned (`heat`) and of `signed` heatmaps from the lowest to the highest value."""
    return {"heat": colours_of(HEAT, STOPS), "signed": colours_of(SIGNED, STOPS)}


def _is_signed(found: Examples, interp: str) -> bool:
    return any(is_signed(found.maps[interp, name]) for name in NETWORKS)


def _sizes(found: Examples) -> Iterable[tuple[str, tuple[int, int]]]:
    """Yield the kind (`map` or `image`) and the (height, width) of every heatmap and image."""
    for maps in found.maps.values():
        images, classes, height, width = maps.shape
        yield from [("map", (height, width))] * (images * classes)
    images, _, height, width = found.images.shape
    yield from [("image", (height, width))] * images


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _rounded(value: float) -> float | None:
    return None if isnan(value) else round(value, 4)
