"""Center-mass fooling: the centre of mass of every heatmap moved away."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from advfool.foolings.base import OriginalMaps, PassiveFooling, checked_original
from advfool.foolings.topk import Norm
from advfool.utilities.errors import check_choice
from advfool.utilities.heatmaps import centroid

UNMOVED = 1e-4  # pixels: less is rounding


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

    needs_original: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("fooling.test_norm", self.test_norm, Norm)

    def penalty(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps) -> Float[Tensor, "n"]:
        original = checked_original(heatmaps, original)
        moved = self._moved(heatmaps, original)
        # At the start nothing has moved, and the L1 norm has no gradient: there each centre goes where there is room.
        middle = (torch.tensor(heatmaps.shape[1:], device=moved.device) - 1) / 2
        room = torch.where(centroid(original.relu()) < middle, 1, -1)
        return -torch.where(moved.abs() > UNMOVED, moved.abs(), moved * room).sum(dim=1)

    def _distance(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps) -> Float[Tensor, "n"]:
        height, width = heatmaps.shape[1:]
        distance = torch.linalg.vector_norm(self._moved(heatmaps, original), ord=self.test_norm, dim=1)
        return (distance / (height**2 + width**2) ** 0.5).clamp_max(1).to(heatmaps.dtype)

    @staticmethod
    def _moved(heatmaps: Float[Tensor, "n h w"], original: OriginalMaps) -> Float[Tensor, "n 2"]:
        origin = centroid(original.relu())
        return centroid(heatmaps.relu(), origin) - origin
