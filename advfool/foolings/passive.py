"""Passive foolings: heatmaps that say nothing about the image."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from advfool.errors import AdvfoolError
from advfool.foolings.base import Fooling
from advfool.heatmaps import SMALLEST_MAP, frame_mask


@dataclass(frozen=True)
class Location(Fooling):
    """Draws every heatmap to the frame of the image: `mean_j (h_j - m_j)^2`, m = 1 on the frame and 0 inside.

    Source: Heo et al. 2019, eq. 3 and Appendix B, Remark 1. The test loss is the same; fooled within [0, 0.2].
    """

    interval: ClassVar[tuple[float, float]] = (0.0, 0.2)

    def penalty(
        self, heatmaps: Float[Tensor, "n h w"], reference: Float[Tensor, "n h w"] | None = None
    ) -> Float[Tensor, "n"]:
        """Raises:
        AdvfoolError: the map is smaller than 7x7, so that it has no frame.
        """
        height, width = heatmaps.shape[1:]
        if min(height, width) < SMALLEST_MAP:
            raise AdvfoolError(
                f"fooling=location needs heatmaps of at least {SMALLEST_MAP}x{SMALLEST_MAP}, got {height}x{width}. "
                "Choose an earlier layer (interp.layer=...) or larger images."
            )
        mask = frame_mask(height, width, heatmaps.device).to(heatmaps.dtype)
        return (heatmaps - mask).square().mean(dim=(1, 2))

    _distance = penalty
