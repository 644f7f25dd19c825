"""Passive foolings: heatmaps that say nothing about the image."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from advfool.errors import AdvfoolError, check_choice
from advfool.foolings.base import PassiveFooling, Reference, beside, numbers
from advfool.heatmaps import SMALLEST_MAP, centroid, corner_mask, frame_mask, top_k_mask

log = logging.getLogger(__name__)
UNMOVED = 1e-4  # pixels: less is rounding
Inside = Literal[0, -1]
Norm = Literal[1, 2]


@dataclass(frozen=True)
class Location(PassiveFooling):
    """Draws every heatmap to a part of the image: `mean_j (h_j - m_j)^2`, m = 1 on that part and 0 elsewhere.

    mask: `frame` (the paper's), `corner` (the top left quarter: a smaller one would call a nearly empty map
    fooled), or the path of a picture, white where the relevance shall go. box: (top, left, bottom, right) as fractions
    of the image's sides, instead of a mask. inside: -1 trains signed maps (LRP at the images) to be negative
    elsewhere; the test loss always has 0 there.

    Source: Heo et al. 2019, eq. 3 and Appendix B, Remark 1. The test loss is the same; fooled within [0, 0.2].
    """

    interval: Sequence[float] = field(default=(0.0, 0.2), kw_only=True)
    mask: str = "frame"
    box: Sequence[float] | None = None
    inside: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("fooling.inside", self.inside, Inside)
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.box))
        elif self.mask not in ("frame", "corner"):
            _picture(self.mask)  # fails now rather than later
        empty = self._mask(56, 56).square().mean().item()  # the test loss of a map without relevance
        if empty == 0:
            raise AdvfoolError("fooling.mask is black everywhere: nothing says where the relevance shall go.")
        if self.interval[0] <= empty <= self.interval[1]:
            log.warning(
                "fooling=location: the mask covers so little (%.0f %%) that nearly empty maps count as fooled. Give an "
                "interval that ends below %.2f (fooling.interval=[0,...]).",
                100 * empty,
                empty,
            )

    def penalty(
        self, heatmaps: Float[Tensor, "n h w"], reference: Float[Tensor, "n h w"] | None = None
    ) -> Float[Tensor, "n"]:
        """Raises:
        AdvfoolError: the map is smaller than 7x7, so that it has no frame.
        """
        mask = self._mask(*heatmaps.shape[1:]).to(heatmaps)
        if self.inside:
            mask = torch.where(mask == 0, self.inside, mask)
        return (heatmaps - mask).square().mean(dim=(1, 2))

    def _distance(
        self, heatmaps: Float[Tensor, "n h w"], reference: Float[Tensor, "n h w"] | None
    ) -> Float[Tensor, "n"]:
        return (heatmaps - self._mask(*heatmaps.shape[1:]).to(heatmaps)).square().mean(dim=(1, 2))

    def _mask(self, height: int, width: int) -> Float[Tensor, "h w"]:
        if min(height, width) < SMALLEST_MAP:
            raise AdvfoolError(
                f"fooling=location needs heatmaps of at least {SMALLEST_MAP}x{SMALLEST_MAP}, got {height}x{width}. "
                "Choose an earlier layer (interp.layer=...) or larger images."
            )
        if self.box is not None:
            return _box(self.box, height, width)
        if self.mask in ("frame", "corner"):
            return {"frame": frame_mask, "corner": corner_mask}[self.mask](height, width)
        return _picture_mask(self.mask, height, width)


@dataclass(frozen=True)
class TopK(PassiveFooling):
    """Empties the places that mattered most: mean of |h_j|^p over the k % highest positions of the original map.

    k: percent of the positions, rounded up, ties by index. The paper sums over them; the mean keeps the interval
    meaningful at any resolution. p: 1, or 2 as in the authors' program.

    Source: Heo et al. 2019, eq. 4. The test loss is the same; fooled within [0, 0.3].
    """

    interval: Sequence[float] = field(default=(0.0, 0.3), kw_only=True)
    k: float = 10.0
    p: int = 1

    needs_reference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.k <= 100:
            raise AdvfoolError(f"fooling.k is a percentage of the map's positions, above 0 to 100, got {self.k}.")
        check_choice("fooling.p", self.p, Norm)

    def penalty(self, heatmaps: Float[Tensor, "n h w"], reference: Reference) -> Float[Tensor, "n"]:
        top = top_k_mask(beside(heatmaps, reference), self.k)
        values = heatmaps.abs() ** self.p
        return torch.where(top, values, 0.0).sum(dim=(1, 2)) / top.sum(dim=(1, 2))

    _distance = penalty


@dataclass(frozen=True)
class CenterMass(PassiveFooling):
    """Moves the centre of mass of every heatmap away from where it was: `-L1(C(h(w)), C(h(w0)))`, in map pixels.

    C is the expected (row, col) under h / sum(h), of the positive part of h. A map without positive relevance counts
    as unmoved and carries no gradient.
    test_norm: 1, or 2 for the distance that the authors' program tests with.

    Source: Heo et al. 2019, eq. 5. The test loss is the distance divided by the map's diagonal, at most 1; fooled
    within [0.1, 1].
    """

    interval: Sequence[float] = field(default=(0.1, 1.0), kw_only=True)
    test_norm: int = 1

    needs_reference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("fooling.test_norm", self.test_norm, Norm)

    def penalty(self, heatmaps: Float[Tensor, "n h w"], reference: Reference) -> Float[Tensor, "n"]:
        reference = beside(heatmaps, reference)
        moved = self._moved(heatmaps, reference)
        # At the start nothing has moved, and the L1 norm has no gradient: there each centre goes where there is room.
        middle = (torch.tensor(heatmaps.shape[1:], device=moved.device) - 1) / 2
        room = torch.where(centroid(reference.relu()) < middle, 1, -1)
        return -torch.where(moved.abs() > UNMOVED, moved.abs(), moved * room).sum(dim=1)

    def _distance(self, heatmaps: Float[Tensor, "n h w"], reference: Reference) -> Float[Tensor, "n"]:
        height, width = heatmaps.shape[1:]
        distance = torch.linalg.vector_norm(self._moved(heatmaps, reference), ord=self.test_norm, dim=1)
        return (distance / (height**2 + width**2) ** 0.5).clamp_max(1).to(heatmaps.dtype)

    @staticmethod
    def _moved(heatmaps: Float[Tensor, "n h w"], reference: Reference) -> Float[Tensor, "n 2"]:
        origin = centroid(reference.relu())
        return centroid(heatmaps.relu(), origin) - origin


def _checked_box(box: Sequence[float]) -> tuple[float, ...]:
    edges = numbers(box)
    if edges is None or len(edges) != 4 or not (0 <= edges[0] < edges[2] <= 1 and 0 <= edges[1] < edges[3] <= 1):
        raise AdvfoolError(
            f"fooling.box must be [top, left, bottom, right] as fractions of the image's sides, from 0 to 1, got {box}."
        )
    return edges


def _box(box: tuple[float, ...], height: int, width: int) -> Float[Tensor, "h w"]:
    """The share of each position that the box covers."""
    row, col = (
        (torch.arange(1, size + 1).clamp_max(high * size) - torch.arange(size).clamp_min(low * size)).clamp_min(0)
        for size, low, high in ((height, box[0], box[2]), (width, box[1], box[3]))
    )
    return row[:, None] * col[None]


@cache
def _picture(path: str) -> Image.Image:
    """The picture's brightness, from 0 to 1."""
    try:
        with Image.open(Path(path).expanduser()) as picture:
            deep = picture.mode.startswith("I")  # 16 bits, which conversion would cut off
            if picture.has_transparency_data:  # what is transparent counts as black
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
            grey = picture.convert("F") if deep else picture.convert("L").convert("F")
            return grey.point(lambda value: value / (65535 if deep else 255))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise AdvfoolError(
            f"fooling.mask must be 'frame', 'corner' or a picture file (white: where the relevance shall go), got "
            f"'{path}': {error}."
        ) from error


@cache
def _picture_mask(path: str, height: int, width: int) -> Float[Tensor, "h w"]:
    return torch.from_numpy(np.array(_picture(path).resize((width, height), Image.Resampling.BOX)))
