"""Rank the values of heatmaps: average ranks, rank correlation, highest positions."""

from fractions import Fraction
from math import ceil

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

_CHUNK = 2**15  # number of values ranked at a time on the CPU, so that they stay in its cache


def ranks(values: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """Rank the values within each row.

    Args:
        values: rows of values.

    Returns:
        Ranks from 1 to p in float64; equal values share the average of their ranks. Rows with NaN are NaN.

    >>> ranks(torch.tensor([[0.3, 0.1, 0.3, 0.9]]))
    tensor([[2.5000, 1.0000, 2.5000, 4.0000]], dtype=torch.float64)
    """
    found = _centred_ranks(values) + (values.shape[1] + 1) / 2
    return found.masked_fill_(values.isnan().any(dim=1, keepdim=True), torch.nan)


def rank_correlation(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"]) -> Float[Tensor, "n"]:
    """Compute Spearman's rank correlation of each pair of heatmaps, with average ranks for ties.

    Args:
        a: heatmaps.
        b: the heatmaps to compare them with.

    Returns:
        Correlations from -1 to 1 in float64; NaN where a heatmap is constant or holds NaN.

    Source: Spearman 1904 (Pearson's correlation of the ranks).
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
    """Compute ranks minus their mean (p + 1) / 2; the values of rows with NaN are arbitrary."""
    values = values.detach().double().contiguous()
    if values.device.type == "cpu":
        return torch.from_numpy(_centred_ranks_numpy(values.numpy()))
    ascending = values.sort(dim=1).values
    below, not_above = (torch.searchsorted(ascending, values, right=right) for right in (False, True))
    return (below + not_above - values.shape[1]).double() / 2


def _centred_ranks_numpy(values: np.ndarray) -> np.ndarray:
    """Compute the same on the CPU, where numpy sorts integers much faster than torch sorts floats."""
    n, p = values.shape
    ascending, order = _sorted_rows(values)
    starts = np.empty(n * p, dtype=bool)  # where runs of equal values start
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
    """Return each row in ascending order, flattened, and the original positions in the flattened array."""
    index = np.arange(values.size).reshape(values.shape)
    index_bits = (1 << values.size.bit_length()) - 1
    bits = values.view(np.int64)
    keys = bits >> 63
    keys &= np.iinfo(np.int64).max
    keys ^= bits  # integers in the order of the values
    keys &= ~index_bits  # these bits are zero for values that come from float32
    keys |= index
    keys.sort(axis=1)
    keys &= index_bits
    ascending = values.take(keys)
    if (ascending[:, 1:] < ascending[:, :-1]).any():  # some values differ only in their last bits
        keys = np.take_along_axis(index, values.argsort(axis=1), axis=1)
        ascending = values.take(keys)
    return ascending.ravel(), keys.ravel()


def top_k_mask(heatmap: Float[Tensor, "n h w"], percent: float = 10.0) -> Bool[Tensor, "n h w"]:
    """Return a mask of the highest positions of each heatmap; ties are broken by index.

    Args:
        heatmap: the heatmaps.
        percent: percentage of positions, from 0 to 100; their number is rounded up and at least one.

    Raises:
        ValueError: `percent` lies outside [0, 100].

    Source: Heo et al. 2019, eq. 4 (`P_{i,k}`).

    >>> top_k_mask(torch.tensor([[[0.1, 0.9], [0.9, 0.2]]]), percent=25)
    tensor([[[False,  True],
             [False, False]]])
    """
    flat = heatmap.detach().flatten(1)
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must lie in [0, 100], got {percent!r}")
    count = max(
        1, ceil(Fraction(str(percent)) * flat.shape[1] / 100)
    )  # exact arithmetic: 7 / 100 * 100 exceeds 7 in floats
    top = flat.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, top, True).view(heatmap.shape)
