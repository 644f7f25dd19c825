"""The gallery's data: pictures as WebP, heatmaps as one byte for each place, coloured by the page.

Everything is made as large as a budget for the whole page allows, so that a hundred runs still fit into it.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from math import isnan

import matplotlib
import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from advfool.evaluation.comparison import NETWORKS
from advfool.evaluation.examples import Example, Examples, lower_is_better, read_examples
from advfool.evaluation.pictures import BRIGHTEST, HEAT, SIGNED
from advfool.metrics.functional import is_fooled
from advfool.reporting import wording
from advfool.reporting.runs import Run

SIDES = (224, 112, 56, 28, 14)  # of maps on the page, the largest that fits
MAPS_BUDGET = 5_000_000  # bytes of all maps together, before base64 adds a third
PICTURE_SIDES = (224, 160, 112, 80)
PICTURES_BUDGET = 3_000_000
QUALITY = 85  # of WebP
STOPS = 33  # colours of a scale that the page interpolates between


class Gallery:
    """Collects the examples of all runs; pictures that several runs share are kept once."""

    def __init__(self, runs: Sequence[Run]) -> None:
        sizes = [size for run in runs if (found := read_examples(run.folder)) for size in _sizes(found)]
        self.side = fitting_side([size for kind, size in sizes if kind == "map"], SIDES, MAPS_BUDGET)
        pixels = [size for kind, size in sizes if kind == "image"]
        self.picture_side = fitting_side(pixels, PICTURE_SIDES, 8 * PICTURES_BUDGET)  # WebP: at most 1 bit a pixel
        self.pictures: dict[str, int] = {}  # data URI: its number

    def add(self, run: Run) -> dict | None:
        """The examples of a run for the page, from the best to the worst test loss; None where there are none."""
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

    def _image(self, found: Examples, row: int, signed: dict[str, bool]) -> dict:
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

    def _maps(self, found: Examples, row: int, interp: str, signed: bool) -> list[dict]:
        """For each class explained the maps of both networks with their test losses."""
        maps = {name: found.maps[interp, name][row].float() for name in NETWORKS}
        losses = {name: found.test_loss[interp, name][row] for name in NETWORKS}
        classes = []
        for c in range(len(maps["original"])):
            own: dict = {"loss": [_rounded(losses[name][c].item()) for name in NETWORKS]}
            own["fooled"] = is_fooled(losses["manipulated"][c], found.interval).item()
            own |= {name: encoded_map(maps[name][c], self.side, signed) for name in NETWORKS}
            own["size"] = list(shrunk(maps["original"][c], self.side).shape)
            classes.append(own)
        return classes


def from_best_to_worst(found: Examples) -> list[int]:
    """The rows by the test loss of the interpreter trained with, degenerate maps last."""
    loss = found.test_loss[found.interps[0], "manipulated"].double().mean(dim=1)
    return (loss if lower_is_better(found.interval) else -loss).argsort(stable=True).tolist()


def fitting_side(sizes: Sequence[tuple[int, int]], sides: Sequence[int], budget: int) -> int:
    """The largest of `sides` (falling) that all maps or images, made no larger than it, fit into the budget with.

    >>> fitting_side([(56, 56)] * 10, (112, 56, 28), 10_000)
    28
    """
    for side in sides:
        if sum(min(height, side) * min(width, side) for height, width in sizes) <= budget:
            return side
    return sides[-1]


def picture(image: UInt8[Tensor, "3 h w"], side: int) -> str:
    """An image as the address of a WebP picture that holds it."""
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    pixels.thumbnail((side, side))
    file = io.BytesIO()
    pixels.save(file, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{_base64(file.getvalue())}"


def encoded_map(heatmap: Float[Tensor, "h w"], side: int, signed: bool) -> str:
    """A map's places as bytes in base64: 0 to 255, or of signed maps 1 to 255 with zero at 128.

    Its brightest place becomes 255 (of maps at the images, all but the few extreme ones), as in the run's pictures.
    """
    values = np.nan_to_num(shrunk(heatmap, side).numpy(), nan=0.0, posinf=0.0, neginf=0.0)
    top = max(float(np.quantile(abs(values), BRIGHTEST)), 1e-12)
    scaled = (values / top).clip(-1 if signed else 0, 1)
    return _base64((scaled * 127 + 128 if signed else scaled * 255).round().astype(np.uint8).tobytes())


def shrunk(heatmap: Float[Tensor, "h w"], side: int) -> Float[Tensor, "h2 w2"]:
    """The map, averaged down where it is larger than `side`."""
    size = tuple(min(length, side) for length in heatmap.shape)
    return F.adaptive_avg_pool2d(heatmap[None], size)[0] if size != tuple(heatmap.shape) else heatmap


def colour_scales() -> dict[str, list[list[int]]]:
    """The colours of unsigned and signed maps from the lowest to the highest, as (red, green, blue)."""
    places = np.linspace(0, 1, STOPS)
    scales = {"heat": HEAT, "signed": SIGNED}
    return {
        key: (matplotlib.colormaps[name](places)[:, :3] * 255).round().astype(int).tolist()
        for key, name in scales.items()
    }


def _is_signed(found: Examples, interp: str) -> bool:
    return any((found.maps[interp, name] < 0).any().item() for name in NETWORKS)


def _sizes(found: Examples) -> Iterable[tuple[str, tuple[int, int]]]:
    """(kind, size) of every map and image."""
    for maps in found.maps.values():
        yield from [("map", tuple(maps.shape[-2:]))] * (maps.shape[0] * maps.shape[1])
    yield from [("image", tuple(found.images.shape[-2:]))] * len(found.images)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _rounded(value: float) -> float | None:
    return None if isnan(value) else round(value, 4)
