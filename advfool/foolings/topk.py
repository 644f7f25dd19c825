"""Top-k fooling: the most relevant positions of the original heatmap lose their relevance."""

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Le
from jaxtyping import Float
from torch import Tensor

from advfool.foolings.base import Norm, OriginalMaps, PassiveFooling, checked_original
from advfool.utilities.kinds import Interval, Words
from advfool.utilities.ranking import top_k_mask


@dataclass(frozen=True)
class TopK(PassiveFooling):
    """Remove the relevance from the most relevant positions of the original heatmap.

    Penalty and test loss are the mean of |h_j|^p over the k % highest positions j of the original network's heatmap,
    with h the manipulated network's heatmap, from 0 to 1. An image is fooled within [0, 0.3].

    Args:
        k: percentage of the map's positions, above 0 to 100. Their number is rounded up; among equal values the
            position with the lower index comes first.
        p: exponent: 1, or 2 as in the authors' program.

    Raises:
        AdvfoolError: `k` or `p` is out of range, or the interval is not two numbers in ascending order.

    Source: Heo et al. 2019, eq. 4, with a mean instead of the sum, so that the interval holds at any resolution.
    """

    interval: Interval = field(default=(0.0, 0.3), kw_only=True)
    k: Annotated[float, Gt(0), Le(100), Words("a percentage of the map's positions, above 0 to 100")] = 10.0
    p: Norm = 1

    needs_original: ClassVar[bool] = True
    possible: ClassVar[tuple[float, float]] = (0, math.inf)

    def penalty(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        top = top_k_mask(checked_original(heatmaps, original), self.k)
        values = heatmaps.abs() ** self.p
        return torch.where(top, values, 0.0).sum(dim=(1, 2)) / top.sum(dim=(1, 2))

    def _distance(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps) -> Float[Tensor, "n"]:
        return self.penalty(heatmaps, original)
