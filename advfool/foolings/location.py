"""Location fooling: the relevance of every heatmap moves to one part of the image."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from advfool.foolings.base import OriginalMaps, PassiveFooling
from advfool.foolings.pictures import read_brightness
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import SMALLEST_MAP, corner_mask, frame_mask
from advfool.utilities.kinds import Box, Interval, Text

log = logging.getLogger(__name__)
Inside = Literal[0, -1]


@dataclass(frozen=True)
class Location(PassiveFooling):
    """Move the relevance of every heatmap to one part of the image.

    Penalty and test loss are `mean_j (h_j - m_j)^2` over all positions j of the heatmap h, where the mask m is 1 on
    that part and 0 elsewhere. The test loss lies from 0 to 1; an image is fooled within [0, 0.2].

    Args:
        mask: where the relevance shall go: `frame` (as in the paper), `corner` (the top left quarter; with a smaller
            part, a nearly empty map would count as fooled), or the path of a picture that is white there.
        box: the same part as (top, left, bottom, right) in fractions of the image's sides, instead of a mask.
        inside: value of the mask elsewhere while training; -1 trains signed maps (LRP at the images) to be negative
            there. The test loss always has 0.

    Raises:
        AdvfoolError: the mask is no picture or black everywhere, or box, `inside` or interval are out of range.

    Source: Heo et al. 2019, eq. 3 and Appendix B, Remark 1.
    """

    interval: Interval = field(default=(0.0, 0.2), kw_only=True)
    mask: Text = "frame"
    box: Box | None = None
    inside: Inside = 0

    possible: ClassVar[tuple[float, float]] = (0, math.inf)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.box is not None:
            object.__setattr__(self, "box", tuple(float(edge) for edge in self.box))
        elif self.mask not in ("frame", "corner"):
            _picture(self.mask)  # raises the error before the training
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

    def penalty(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        """Compute the training loss of each image.

        Args:
            heatmaps: of the manipulated network.
            original: not used.

        Raises:
            AdvfoolError: the map is smaller than 7x7, so that it has no frame.
        """
        mask = self._mask(*heatmaps.shape[1:]).to(heatmaps)
        if self.inside:
            mask = torch.where(mask == 0, self.inside, mask)
        return (heatmaps - mask).square().mean(dim=(1, 2))

    def _distance(
        self, heatmaps: Float[Tensor, "n h w"], original: Float[Tensor, "n h w"] | None
    ) -> Float[Tensor, "n"]:
        return (heatmaps - self._mask(*heatmaps.shape[1:]).to(heatmaps)).square().mean(dim=(1, 2))

    def target(self, height: int, width: int) -> Float[Tensor, "h w"]:
        """Return the part of a map that the relevance shall go to: 1 on it and 0 elsewhere.

        Args:
            height: of the map.
            width: of the map.

        Raises:
            AdvfoolError: the map is smaller than 7x7.
        """
        return self._mask(height, width)

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


def _box(box: Sequence[float], height: int, width: int) -> Float[Tensor, "h w"]:
    """Return the share of each position that the box covers."""
    row, col = (
        (torch.arange(1, size + 1).clamp_max(high * size) - torch.arange(size).clamp_min(low * size)).clamp_min(0)
        for size, low, high in ((height, box[0], box[2]), (width, box[1], box[3]))
    )
    return row[:, None] * col[None]


@cache
def _picture(path: str) -> Image.Image:
    return read_brightness(
        path, "fooling.mask must be 'frame', 'corner' or a picture file (white: where the relevance shall go)"
    )


@cache
def _picture_mask(path: str, height: int, width: int) -> Float[Tensor, "h w"]:
    return torch.from_numpy(np.array(_picture(path).resize((width, height), Image.Resampling.BOX)))
