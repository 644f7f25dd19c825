"""Active fooling: the heatmap of one class shows what belongs to another."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from advfool.foolings.base import Fooling, OriginalMaps, checked_original
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import is_degenerate
from advfool.utilities.ranking import rank_correlation


@dataclass(frozen=True)
class Active(Fooling):
    """Swaps the maps of two classes: `(MSE(h_c1(w), h_c2(w0)) + MSE(h_c2(w), h_c1(w0))) / 2`, on images of both.

    Maps and test loss have the class in their second dimension: c1, c2. The test loss of c1 is
    `s(c1, c2) - s(c1, c1)` with `s(a, b)` the Spearman correlation of h_a(w) and h_b(w0), and likewise for c2.

    c1, c2: the classes, by index or name (None: chosen by the data). The penalty is computed on composites, each a
    2x2 grid of two images of c1 and two of c2 in random places: `train` and `test` are how many, from different
    source images; with `fresh` those for training are drawn anew each time. `batch_size` composites join each batch
    of ordinary images, on which the classification is preserved.

    Source: Heo et al. 2019, eq. 8 and 9; fooled within [0.5, 2].
    """

    c1: int | str | None = None
    c2: int | str | None = None
    interval: Sequence[float] = field(default=(0.5, 2.0), kw_only=True)
    train: int = 1100
    test: int = 200
    fresh: bool = False
    batch_size: int = 4
    seed: int = 0

    needs_original: ClassVar[bool] = True
    needs_composites: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train", "test", "batch_size"):
            if getattr(self, name) < 1:
                raise AdvfoolError(f"fooling.{name} must be at least 1, got {getattr(self, name)}.")

    def penalty(self, heatmaps: Float[Tensor, "n 2 h w"], original: OriginalMaps) -> Float[Tensor, "n"]:
        return (heatmaps - checked_original(heatmaps, original).flip(1)).square().mean(dim=(1, 2, 3))

    def test_loss(self, heatmaps: Float[Tensor, "n 2 h w"], original: OriginalMaps) -> Float[Tensor, "n 2"]:
        maps, originals = heatmaps.detach(), checked_original(heatmaps, original)
        to_other, to_own = (
            torch.stack([rank_correlation(maps[:, c], others[:, c]) for c in (0, 1)], dim=1)
            for others in (originals.flip(1), originals)
        )
        unusable = is_degenerate(maps) | is_degenerate(originals).any(dim=1, keepdim=True)
        return torch.where(unusable, torch.nan, to_other - to_own).to(heatmaps.dtype)
