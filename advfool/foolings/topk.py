"""Top-k fooling: the highest positions of the original heatmap emptied."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from advfool.foolings.base import OriginalMaps, PassiveFooling, checked_original
from advfool.utilities.errors import AdvfoolError, check_choice
from advfool.utilities.ranking import top_k_mask

Norm = Literal[1, 2]


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

    needs_original: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.k <= 100:
            raise AdvfoolError(f"fooling.k is a percentage of the map's positions, above 0 to 100, got {self.k}.")
        check_choice("fooling.p", self.p, Norm)

    def penalty(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps) -> Float[Tensor, "n"]:
        top = top_k_mask(checked_original(heatmaps, original), self.k)
        values = heatmaps.abs() ** self.p
        return torch.where(top, values, 0.0).sum(dim=(1, 2)) / top.sum(dim=(1, 2))

    _distance = penalty
