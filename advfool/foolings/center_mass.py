"""Center-mass fooling: the centre of mass of every heatmap moves away from its place."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from advfool.foolings.base import Norm, OriginalMaps, PassiveFooling, checked_original
from advfool.utilities.heatmaps import centroid
from advfool.utilities.kinds import Interval

UNMOVED = 1e-4  # pixels; smaller distances are rounding errors


@dataclass(frozen=True)
class CenterMass(PassiveFooling):
    """Move the centre of mass of every heatmap away from that of the original heatmap.

    The penalty is `-L1(C(h(w)), C(h(w0)))` in pixels of the map, where C is the centre of mass (row, col) of the
    positive part of a map, h(w) the manipulated network's and h(w0) the original network's heatmap. The test loss is
    the distance of the two centres divided by the map's diagonal, from 0 to 1; an image is fooled within [0.1, 1]. A
    map without positive relevance counts as unmoved and carries no gradient.

    Args:
        test_norm: the norm of the test loss: 1, or 2 as in the authors' program.

    Raises:
        AdvfoolError: `test_norm` is neither 1 nor 2, or the interval is not two numbers in ascending order.

    Source: Heo et al. 2019, eq. 5.
    """

    interval: Interval = field(default=(0.1, 1.0), kw_only=True)
    test_norm: Norm = 1

    needs_original: ClassVar[bool] = True
    possible: ClassVar[tuple[float, float]] = (0, 1)

    def penalty(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        original = checked_original(heatmaps, original)
        moved = self._moved(heatmaps, original)
        # The L1 norm has no gradient where a centre has not moved. There the centre is moved to the farther side.
        middle = (torch.tensor(heatmaps.shape[1:], device=moved.device) - 1) / 2
        room = torch.where(centroid(original.relu()) < middle, 1, -1)
        return -torch.where(moved.abs() > UNMOVED, moved.abs(), moved * room).sum(dim=1)

    def _distance(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps) -> Float[Tensor, "n"]:
        height, width = heatmaps.shape[1:]
        distance = torch.linalg.vector_norm(
            self._moved(heatmaps, checked_original(heatmaps, original)), ord=self.test_norm, dim=1
        )
        return (distance / (height**2 + width**2) ** 0.5).clamp_max(1).to(heatmaps.dtype)

    @staticmethod
    def _moved(heatmaps: Float[Tensor, "n h w"], original: Float[Tensor, "n h w"]) -> Float[Tensor, "n 2"]:
        """Return the vector from the original centre of mass to the present one, in pixels of the map."""
        origin = centroid(original.relu())
        return centroid(heatmaps.relu(), origin) - origin
