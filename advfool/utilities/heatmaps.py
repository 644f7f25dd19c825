"""Operate on heatmaps: normalisation, resizing, masks and centres of mass."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Normalise = Literal["max", "minmax", "sum", "none"]
SMALLEST_MAP = 7  # pixels on each side; smaller heatmaps have no frame and localise poorly


def normalise(heatmap: Float[Tensor, "n h w"], how: str = "max") -> Float[Tensor, "n h w"]:
    """Scale each heatmap by its own range; one without a range becomes zero and carries no gradient.

    Args:
        heatmap: the heatmaps.
        how: `max` divides by the largest absolute value, so that signs stay; `minmax` maps the range of values onto
            [0, 1]; `sum` divides by the sum of the absolute values (the authors' program); `none` returns the heatmaps
            unchanged.

    Raises:
        ValueError: `how` is another word.

    Source: Heo et al. 2019, Section 3.1 (maps in [0, 1]) with the authors' choice for each interpreter.
    """
    if how == "none":
        return heatmap
    if how == "minmax":
        heatmap = heatmap - heatmap.amin(dim=(1, 2), keepdim=True)
    elif how not in ("max", "sum"):
        raise ValueError(f"normalise must be 'max', 'minmax', 'sum' or 'none', got {how!r}")
    size = heatmap.abs()
    scale = size.sum(dim=(1, 2), keepdim=True) if how == "sum" else size.amax(dim=(1, 2), keepdim=True)
    empty = scale == 0
    return torch.where(empty, 0.0, heatmap / torch.where(empty, 1.0, scale))


def is_degenerate(heatmap: Float[Tensor, "*n h w"]) -> Bool[Tensor, "*n"]:
    """Return which heatmaps carry no information: they are constant (for example zero) or hold a non-finite value."""
    flat = heatmap.detach().flatten(-2)
    return (flat.amax(dim=-1) == flat.amin(dim=-1)) | ~flat.isfinite().all(dim=-1)


def is_finite(heatmap: Float[Tensor, "n *two h w"]) -> Bool[Tensor, "n"]:
    """Return the images whose values are all finite, over all their heatmaps."""
    return heatmap.flatten(1).isfinite().all(dim=1)


def frame_mask(height: int, width: int, device: torch.device | None = None) -> Float[Tensor, "h w"]:
    """Return a mask that is 1 on the frame and 0 inside.

    Args:
        height: height of the mask in pixels.
        width: width of the mask in pixels.
        device: where to create the mask.

    Returns:
        The mask; its frame is min(height, width) // 7 pixels wide.

    Source: Heo et al. 2019, Appendix B, Remark 1; the width is that of the authors' program
        (7x7: 1, 14x14: 2, 224x224: 32).
    """
    edge = min(height, width) // 7
    mask = torch.ones(height, width, device=device)
    mask[edge : height - edge, edge : width - edge] = 0
    return mask


def corner_mask(height: int, width: int, device: torch.device | None = None) -> Float[Tensor, "h w"]:
    """Return a mask that is 1 on the top left quarter (half of each side, rounded up) and 0 elsewhere.

    Args:
        height: height of the mask in pixels.
        width: width of the mask in pixels.
        device: where to create the mask.
    """
    mask = torch.zeros(height, width, device=device)
    mask[: (height + 1) // 2, : (width + 1) // 2] = 1
    return mask


def centroid(heatmap: Float[Tensor, "n h w"], otherwise: Float[Tensor, "n 2"] | None = None) -> Float[Tensor, "n 2"]:
    """Compute the centre of mass of each heatmap.

    Args:
        heatmap: nonnegative heatmaps.
        otherwise: the result for heatmaps that are zero everywhere; the middle by default.

    Returns:
        Row and column of each centre, in pixels.

    Source: Heo et al. 2019, eq. 5.

    >>> centroid(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
    tensor([[0.5000, 1.0000]])
    """
    height, width = heatmap.shape[1:]
    heatmap = heatmap.to(torch.promote_types(heatmap.dtype, torch.float32))  # sums overflow float16
    row = torch.arange(height, device=heatmap.device, dtype=heatmap.dtype)[:, None]
    col = torch.arange(width, device=heatmap.device, dtype=heatmap.dtype)
    total = heatmap.sum(dim=(1, 2))
    empty = total == 0
    scale = torch.where(empty, 1.0, total)
    centre = torch.stack([(heatmap * place).sum(dim=(1, 2)) / scale for place in (row, col)], dim=1)
    if otherwise is None:
        otherwise = torch.tensor([(height - 1) / 2, (width - 1) / 2]).to(heatmap)
    return torch.where(empty[:, None], otherwise, centre)


def resize(heatmap: Float[Tensor, "n h w"], size: tuple[int, int]) -> Float[Tensor, "n H W"]:
    """Resize heatmaps bilinearly; each cell of a coarse heatmap stands for the pixels that it covers.

    Args:
        heatmap: the heatmaps.
        size: height and width of the result in pixels.
    """
    return F.interpolate(heatmap[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def box_mask(box: Float[Tensor, "n *boxes 4"], height: int, width: int) -> Bool[Tensor, "n h w"]:
    """Return a mask that is true inside the boxes of each image.

    Args:
        box: one or several boxes for each image, as (top, left, bottom, right) in pixels; bottom and right are
            excluded.
        height: height of the mask in pixels.
        width: width of the mask in pixels.
    """
    boxes = box.unflatten(0, (len(box), 1)).flatten(1, -2)  # (n, boxes, 4)
    top, left, bottom, right = (edge[..., None] for edge in boxes.unbind(dim=2))
    row = torch.arange(height, device=box.device)
    col = torch.arange(width, device=box.device)
    inside = ((row >= top) & (row < bottom))[..., :, None] & ((col >= left) & (col < right))[..., None, :]
    return inside.any(dim=1)
