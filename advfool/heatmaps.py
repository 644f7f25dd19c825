"""Pure tensor maths on heatmaps: normalise, resize, masks, ranks, and what a map says about a box."""

from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Normalise = Literal["max", "minmax", "none"]
_CHUNK = 2**15  # values ranked at a time on the CPU: what stays in its cache
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


def is_degenerate(heatmap: Float[Tensor, "*n h w"]) -> Bool[Tensor, "*n"]:
    """Which maps say nothing: constant (all zero included) or not finite."""
    flat = heatmap.detach().flatten(-2)
    return (flat.amax(dim=-1) == flat.amin(dim=-1)) | ~flat.isfinite().all(dim=-1)


def is_finite(heatmap: Float[Tensor, "n *two h w"]) -> Bool[Tensor, "n"]:
    """Of which images all values are finite."""
    return heatmap.flatten(1).isfinite().all(dim=1)


def frame_mask(height: int, width: int, device: torch.device | None = None) -> Float[Tensor, "h w"]:
    """1 on the frame, 0 inside; the frame is min(height, width) // 7 pixels wide.

    Source: Heo et al. 2019, Appendix B, Remark 1; the width is the authors' (7x7: 1, 14x14: 2, 224x224: 32).
    """
    edge = min(height, width) // 7
    mask = torch.ones(height, width, device=device)
    mask[edge : height - edge, edge : width - edge] = 0
    return mask


def corner_mask(height: int, width: int, device: torch.device | None = None) -> Float[Tensor, "h w"]:
    """1 on the top left quarter (half of each side, rounded up), 0 elsewhere."""
    mask = torch.zeros(height, width, device=device)
    mask[: (height + 1) // 2, : (width + 1) // 2] = 1
    return mask


def centroid(heatmap: Float[Tensor, "n h w"], otherwise: Float[Tensor, "n 2"] | None = None) -> Float[Tensor, "n 2"]:
    """Centre of mass of each non-negative map, as (row, col) in pixels; `otherwise` (the middle) where it is all zero.

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
    """Bilinear, without aligned corners: each cell of a coarse map stands for the pixels it covers."""
    return F.interpolate(heatmap[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def box_mask(box: Float[Tensor, "n *boxes 4"], height: int, width: int) -> Bool[Tensor, "n h w"]:
    """True inside each image's box or boxes (top, left, bottom, right), bottom and right excluded, in pixels."""
    boxes = box.unflatten(0, (len(box), 1)).flatten(1, -2)  # (n, boxes, 4)
    top, left, bottom, right = (edge[..., None] for edge in boxes.unbind(dim=2))
    row = torch.arange(height, device=box.device)
    col = torch.arange(width, device=box.device)
    inside = ((row >= top) & (row < bottom))[..., :, None] & ((col >= left) & (col < right))[..., None, :]
    return inside.any(dim=1)


def points_into(
    heatmap: Float[Tensor, "n h w"], box: Float[Tensor, "n *boxes 4"], size: tuple[int, int]
) -> Float[Tensor, "n"]:
    """1 where the map's maximum, at the image's size, lies in the box, else 0; degenerate maps point nowhere (0).

    NaN where no box is known (-1).

    Source: the pointing game of Zhang et al. 2018 (Excitation Backprop), without its tolerance margin.
    """
    inside = box_mask(box, *size).flatten(1)
    peak = resize(heatmap.float(), size).flatten(1).argmax(dim=1)
    hit = inside.gather(1, peak[:, None])[:, 0] & ~is_degenerate(heatmap)
    return hit.float().where(_known(box), torch.nan)


def mass_inside(
    heatmap: Float[Tensor, "n h w"], box: Float[Tensor, "n *boxes 4"], size: tuple[int, int]
) -> Float[Tensor, "n"]:
    """Share of the positive relevance, at the image's size, that lies in the box.

    NaN for maps without any, and where no box is known (-1).

    Source: relevance mass accuracy of Arras et al. 2022 (CLEVR-XAI).
    """
    positive = resize(heatmap.float().relu(), size)
    inside = (positive * box_mask(box, *size)).sum(dim=(1, 2))
    return (inside / positive.sum(dim=(1, 2))).where(_known(box), torch.nan)


def _known(box: Float[Tensor, "n *boxes 4"]) -> Bool[Tensor, "n"]:
    return (box >= 0).flatten(1).all(dim=1)


def ranks(values: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """Ranks from 1 to p within each row, in float64; equal values share the average of their ranks.

    Rows that hold NaN have no ranks: all NaN.

    >>> ranks(torch.tensor([[0.3, 0.1, 0.3, 0.9]]))
    tensor([[2.5000, 1.0000, 2.5000, 4.0000]], dtype=torch.float64)
    """
    found = _centred_ranks(values) + (values.shape[1] + 1) / 2
    return found.masked_fill_(values.isnan().any(dim=1, keepdim=True), torch.nan)


def rank_correlation(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"]) -> Float[Tensor, "n"]:
    """Spearman's rank correlation of each pair of maps, in float64, from -1 to 1, with average ranks for ties.

    NaN where a map is constant or holds NaN.

    Source: Spearman 1904; Pearson's correlation of the ranks.
    """
    a, b = a.flatten(1), b.flatten(1)
    rows = max(1, _CHUNK // a.shape[1] if a.device.type == "cpu" else len(a))
    found = torch.cat([_rank_correlation(*pair) for pair in zip(a.split(rows), b.split(rows), strict=True)])
    return found.clamp_(-1, 1).masked_fill_(a.amax(dim=1).isnan() | b.amax(dim=1).isnan(), torch.nan)


def _rank_correlation(a: Float[Tensor, "n p"], b: Float[Tensor, "n p"]) -> Float[Tensor, "n"]:
    a, b = _centred_ranks(a), _centred_ranks(b)
    dot = torch.linalg.vecdot
    return dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()


def _centred_ranks(values: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """Ranks less their mean, which is (p + 1) / 2 with ties, too; anything in rows with NaN."""
    values = values.detach().double().contiguous()
    if values.device.type == "cpu":
        return torch.from_numpy(_centred_ranks_numpy(values.numpy()))
    ascending = values.sort(dim=1).values
    below, not_above = (torch.searchsorted(ascending, values, right=right) for right in (False, True))
    return (below + not_above - values.shape[1]).double() / 2


def _centred_ranks_numpy(values: np.ndarray) -> np.ndarray:
    """The same on the CPU, where numpy sorts whole numbers many times as fast as torch finds an order."""
    n, p = values.shape
    ascending, order = _sorted_rows(values)
    starts = np.empty(n * p, dtype=bool)  # of runs of equal values
    np.not_equal(ascending[1:], ascending[:-1], out=starts[1:])
    starts[::p] = True
    if starts.all():
        ranked = np.tile(np.arange(p) - (p - 1) / 2, n)
    else:
        first = np.flatnonzero(starts)
        after = np.append(first[1:], n * p)
        ranked = np.repeat((first + after - 1) * 0.5, after - first)
        ranked.reshape(n, p)[:] -= np.arange(n)[:, None] * p + (p - 1) / 2
    found = np.empty(n * p)
    found[order] = ranked
    return found.reshape(n, p)


def _sorted_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row in ascending order, flattened, and where its values stood in the flattened array."""
    index = np.arange(values.size).reshape(values.shape)
    index_bits = (1 << values.size.bit_length()) - 1
    bits = values.view(np.int64)
    keys = bits >> 63
    keys &= np.iinfo(np.int64).max
    keys ^= bits  # whole numbers in the order of the values
    keys &= ~index_bits  # zeros already where the values come from float32
    keys |= index
    keys.sort(axis=1)
    keys &= index_bits
    ascending = values.take(keys)
    if (ascending[:, 1:] < ascending[:, :-1]).any():  # some differ in their last bits alone
        keys = np.take_along_axis(index, values.argsort(axis=1), axis=1)
        ascending = values.take(keys)
    return ascending.ravel(), keys.ravel()


def top_k_mask(heatmap: Float[Tensor, "n h w"], percent: float = 10.0) -> Bool[Tensor, "n h w"]:
    """True at the `percent` % highest positions of each map: rounded up, at least one, ties by index.

    Source: Heo et al. 2019, eq. 4 (`P_{i,k}`).

    >>> top_k_mask(torch.tensor([[[0.1, 0.9], [0.9, 0.2]]]), percent=25)
    tensor([[[False,  True],
             [False, False]]])
    """
    flat = heatmap.detach().flatten(1)
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must lie in [0, 100], got {percent!r}")
    count = max(1, ceil(Fraction(str(percent)) * flat.shape[1] / 100))  # exact: 7 / 100 * 100 is more than 7 in floats
    top = flat.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, top, True).view(heatmap.shape)
