"""Pure tensor maths on heatmaps: normalise, resize, masks, and what a map says about a box."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Normalise = Literal["max", "minmax", "none"]
SMALLEST_MAP = 7  # pixels a side: below it a map has no frame, and says little about a place


def normalise(heatmap: Float[Tensor, "n h w"], how: str = "max") -> Float[Tensor, "n h w"]:
    """Scales each map by itself; a constant or all-zero map becomes all zero and carries no gradient.

    `max` divides by the largest absolute value (signed maps keep their signs, zero stays zero),
    `minmax` maps the range onto [0, 1], `none` returns the map as it is.

    Source: Heo et al. 2019, Section 3.1 (maps in [0, 1]) with the authors' choice for each interpreter.
    """
    if how == "none":
        return heatmap
    if how == "minmax":
        heatmap = heatmap - heatmap.amin(dim=(1, 2), keepdim=True)
    elif how != "max":
        raise ValueError(f"normalise must be 'max', 'minmax' or 'none', got {how!r}")
    scale = heatmap.abs().amax(dim=(1, 2), keepdim=True)
    empty = scale == 0
    return torch.where(empty, 0.0, heatmap / torch.where(empty, 1.0, scale))


def is_degenerate(heatmap: Float[Tensor, "n h w"]) -> Bool[Tensor, "n"]:
    """Which maps say nothing: constant (all zero included) or not finite."""
    flat = heatmap.detach().flatten(1)
    return (flat.amax(dim=1) == flat.amin(dim=1)) | ~flat.isfinite().all(dim=1)


def frame_mask(height: int, width: int, device: torch.device | None = None) -> Float[Tensor, "h w"]:
    """1 on the frame, 0 inside; the frame is min(height, width) // 7 pixels wide.

    Source: Heo et al. 2019, Appendix B, Remark 1; the width is the authors' (7x7: 1, 14x14: 2, 224x224: 32).
    """
    edge = min(height, width) // 7
    mask = torch.ones(height, width, device=device)
    mask[edge : height - edge, edge : width - edge] = 0
    return mask


def resize(heatmap: Float[Tensor, "n h w"], size: tuple[int, int]) -> Float[Tensor, "n H W"]:
    """Bilinear, without aligned corners: each cell of a coarse map stands for the pixels it covers."""
    return F.interpolate(heatmap[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def box_mask(box: Float[Tensor, "n 4"], height: int, width: int) -> Bool[Tensor, "n h w"]:
    """True inside each box (top, left, bottom, right), bottom and right excluded, in pixels."""
    top, left, bottom, right = (edge[:, None] for edge in box.unbind(dim=1))
    row = torch.arange(height, device=box.device)[None]
    col = torch.arange(width, device=box.device)[None]
    return ((row >= top) & (row < bottom))[:, :, None] & ((col >= left) & (col < right))[:, None, :]


def points_into(
    heatmap: Float[Tensor, "n h w"], box: Float[Tensor, "n 4"], size: tuple[int, int]
) -> Float[Tensor, "n"]:
    """1 where the map's maximum, at the image's size, lies in the box, else 0; degenerate maps point nowhere (0).

    Source: the pointing game of Zhang et al. 2018 (Excitation Backprop), without its tolerance margin.
    """
    inside = box_mask(box, *size).flatten(1)
    peak = resize(heatmap.float(), size).flatten(1).argmax(dim=1)
    hit = inside.gather(1, peak[:, None])[:, 0] & ~is_degenerate(heatmap)
    return hit.float()


def mass_inside(
    heatmap: Float[Tensor, "n h w"], box: Float[Tensor, "n 4"], size: tuple[int, int]
) -> Float[Tensor, "n"]:
    """Share of the positive relevance, at the image's size, that lies in the box; NaN for maps without any.

    Source: relevance mass accuracy of Arras et al. 2022 (CLEVR-XAI).
    """
    positive = resize(heatmap.float().relu(), size)
    inside = (positive * box_mask(box, *size)).sum(dim=(1, 2))
    return inside / positive.sum(dim=(1, 2))
