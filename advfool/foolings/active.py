"""Active fooling: the heatmap of one class shows what belongs to another class."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from advfool.foolings.base import CompositeFooling, OriginalMaps, checked_original
from advfool.utilities.heatmaps import is_degenerate
from advfool.utilities.kinds import Interval
from advfool.utilities.ranking import rank_correlation


@dataclass(frozen=True)
class Active(CompositeFooling):
    """Swap the heatmaps of two classes, on composite images that show both.

    With h_c(w) the heatmap of class c of the manipulated network and h_c(w0) that of the original network, the penalty
    is `(MSE(h_c1(w), h_c2(w0)) + MSE(h_c2(w), h_c1(w0))) / 2`. The test loss of c1 is `s(c1, c2) - s(c1, c1)`, with
    s(a, b) the Spearman correlation of h_a(w) and h_b(w0), and that of c2 likewise; it lies from -2 to 2. A class is
    fooled within [0.5, 2].

    The arguments are those of `CompositeFooling`.

    Source: Heo et al. 2019, eq. 8 (penalty) and eq. 9 (test loss).
    """

    interval: Interval = field(default=(0.5, 2.0), kw_only=True)

    needs_original: ClassVar[bool] = True
    possible: ClassVar[tuple[float, float]] = (-2, 2)

    def penalty(self, heatmaps: Float[Tensor, "n 2 h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        return (heatmaps - checked_original(heatmaps, original).flip(1)).square().mean(dim=(1, 2, 3))

    def test_loss(self, heatmaps: Float[Tensor, "n 2 h w"], original: OriginalMaps = None) -> Float[Tensor, "n 2"]:
        maps, originals = heatmaps.detach(), checked_original(heatmaps, original)
        to_other, to_own = (
            torch.stack([rank_correlation(maps[:, c], others[:, c]) for c in (0, 1)], dim=1)
            for others in (originals.flip(1), originals)
        )
        unusable = is_degenerate(maps) | is_degenerate(originals).any(dim=1, keepdim=True)
        return torch.where(unusable, torch.nan, to_other - to_own).to(heatmaps.dtype)
