"""Top-k fooling: the most relevant positions of the original heatmap lose their relevance."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from advfool.foolings.base import Norm, OriginalMaps, PassiveFooling, checked_original
from advfool.utilities.errors import AdvfoolError, check_choice
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

    interval: Sequence[float] = field(default=(0.0, 0.3), kw_only=True)
    k: float = 10.0
    p: int = 1

    needs_original: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.k <= 100:
            raise AdvfoolError(f"fooling.k is a percentage of the map's positions, above 0 to 100, got {self.k}.")
        check_choice("fooling.p", self.p, Norm)

    def penalty(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        top = top_k_mask(checked_original(heatmaps, original), self.k)
        values = heatmaps.abs() ** self.p
        return torch.where(top, values, 0.0).sum(dim=(1, 2)) / top.sum(dim=(1, 2))

    def _distance(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps) -> Float[Tensor, "n"]:
        return self.penalty(heatmaps, original)
