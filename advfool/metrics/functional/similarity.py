"""The similarity of two heatmaps of the same image: one value in float64 for each pair, whatever the maps' type.

All functions raise `BadMaps`, which names the images, for NaN in either map and for maps of different shapes. The value
is NaN where a pair has no similarity (a constant map has no ranks).
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from advfool.metrics.facts import metric
from advfool.metrics.functional.checks import check_pair
from advfool.utilities.checking import checked
from advfool.utilities.kinds import Percent, Positive
from advfool.utilities.ranking import rank_correlation, top_k_mask

_RADIUS, _SIGMA = 5, 1.5  # pixels, of the window of SSIM
Maps = Float[Tensor, "n h w"]
Others = Float[Tensor, "..."]  # of the same shape, which `check_pair` checks


@metric(needs=("pair of maps",), direction="higher", range=(-1, 1))
@checked
def spearman(a: Maps, b: Others) -> Float[Tensor, "n"]:
    """Compute Spearman's rank correlation, with average ranks for ties.

    Args:
        a: heatmaps.
        b: other heatmaps of the same images.

    Returns:
        A value from -1 to 1 for each image; NaN where a map is constant.

    Raises:
        BadMaps: the maps have different shapes, or NaN; names the images.

    Source: Spearman 1904; `advfool.utilities.ranking.rank_correlation`.

    >>> spearman(torch.tensor([[[0.1, 0.2, 0.3]]]), torch.tensor([[[0.1, 0.9, 0.2]]]))
    tensor([0.5000], dtype=torch.float64)
    """
    check_pair("spearman", a, b)
    return rank_correlation(a, b)


@metric(needs=("pair of maps",), direction="higher", range=(-1, 1))
@checked
def pearson(a: Maps, b: Others) -> Float[Tensor, "n"]:
    """Compute Pearson's correlation of the values.

    Args:
        a: heatmaps.
        b: other heatmaps of the same images.

    Returns:
        A value from -1 to 1 for each image; NaN where a map is constant.

    Raises:
        BadMaps: the maps have different shapes, or NaN; names the images.

    Source: Pearson 1895.

    >>> pearson(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]), torch.tensor([[[0.5, 0.0], [0.5, 0.0]]]))
    tensor([-1.], dtype=torch.float64)
    """
    check_pair("pearson", a, b)
    constant = _is_constant(a) | _is_constant(b)
    a, b = (_flat(maps) for maps in (a, b))
    found = F.cosine_similarity(a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True), eps=0)
    return found.clamp(-1, 1).masked_fill(constant, torch.nan)


@metric(needs=("pair of maps",), direction="higher", range=(-1, 1))
@checked
def cosine(a: Maps, b: Others) -> Float[Tensor, "n"]:
    """Compute the cosine of the angle between the maps as vectors.

    Args:
        a: heatmaps.
        b: other heatmaps of the same images.

    Returns:
        A value from -1 to 1 for each image; NaN where a map is all zero.

    Raises:
        BadMaps: the maps have different shapes, or NaN; names the images.

    >>> cosine(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 1.0]]]))
    tensor([0.7071], dtype=torch.float64)
    """
    check_pair("cosine", a, b)
    a, b = (_flat(maps) for maps in (a, b))
    return F.cosine_similarity(a, b, eps=0).clamp(-1, 1)


@metric(needs=("pair of maps",), direction="higher", range=(-1, 1))
@checked
def ssim(a: Maps, b: Others, data_range: Positive = 1.0) -> Float[Tensor, "n"]:
    """Compute the structural similarity (SSIM), as the mean over all positions of the map.

    The window is Gaussian, with a standard deviation of 1.5 pixels and 11x11 pixels large. The map is mirrored at its
    border. Along sides of 5 pixels or less, the window is cut to what can be mirrored: 9 pixels for 5, 1 pixel for 1.

    Args:
        a: heatmaps.
        b: other heatmaps of the same images.
        data_range: difference of the largest and the smallest value that a map can have; 2 for maps from -1 to 1.

    Returns:
        A value of at most 1 (equal maps) for each image, which is not NaN for finite maps.

    Raises:
        BadMaps: the maps have different shapes, or NaN; names the images.

    Source: Wang et al. 2004, eq. 13, with K1 = 0.01 and K2 = 0.03. As in torchmetrics, but unlike scikit-image and the
    authors' program, the mean includes the positions near the border (in a map of 14x14, 84 % of all positions).

    >>> ssim(torch.tensor([[[0.0, 0.5, 1.0]]]), torch.tensor([[[0.0, 0.5, 1.0]]]))
    tensor([1.], dtype=torch.float64)
    """
    check_pair("ssim", a, b)
    if not len(a):
        return a.new_zeros(0, dtype=torch.float64)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    a, b = a.double(), b.double()
    mean_a, mean_b = _windowed(a), _windowed(b)
    variances = (_windowed(a * a) - mean_a**2).clamp(min=0) + (_windowed(b * b) - mean_b**2).clamp(min=0)
    covariance = _windowed(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (luminance * structure).mean(dim=(0, 1))


@metric(needs=("pair of maps",), direction="higher", range=(0, 1))
@checked
def topk_intersection(a: Maps, b: Others, percent: Percent = 10.0) -> Float[Tensor, "n"]:
    """Compute the share of the highest positions that both maps have in common.

    Args:
        a: heatmaps.
        b: other heatmaps of the same images.
        percent: percentage of the positions that count as the highest, above 0, up to 100. Their number is rounded up;
            among equal values the position with the lower index comes first.

    Returns:
        A value from 0 to 1 for each image; NaN where a map is constant.

    Raises:
        BadMaps: the maps have different shapes, or NaN; names the images.

    Source: Ghorbani, Abid and Zou 2019 (top-k intersection).
    """
    check_pair("topk_intersection", a, b)
    tops = top_k_mask(a, percent).flatten(1), top_k_mask(b, percent).flatten(1)
    share = (tops[0] & tops[1]).sum(dim=1) / tops[0].sum(dim=1).double()
    return share.masked_fill(_is_constant(a) | _is_constant(b), torch.nan)


def _flat(maps: Others) -> Float[Tensor, "n p"]:
    """Flatten maps to vectors in float64 and divide each by its largest absolute value, so that squares are finite."""
    flat = maps.flatten(1).double()
    return flat / flat.abs().amax(dim=1, keepdim=True)


def _is_constant(maps: Others) -> Bool[Tensor, "n"]:
    flat = maps.flatten(1)
    return flat.amax(dim=1) == flat.amin(dim=1)


def _windowed(maps: Maps) -> Float[Tensor, "h w n"]:
    """Compute the mean under SSIM's window at each position by sums of shifted maps, faster than conv2d on a CPU."""
    down, across = (min(_RADIUS, side - 1) for side in maps.shape[1:])
    maps = F.pad(maps, (across, across, down, down), mode="reflect")
    maps = maps.permute(1, 2, 0).contiguous()  # images in the last dimension, so that the rows in memory are long
    for dim, radius in ((0, down), (1, across)):
        weights = [math.exp(-((x / _SIGMA) ** 2) / 2) for x in range(-radius, radius + 1)]
        side = maps.shape[dim] - 2 * radius
        total = maps.narrow(dim, 0, side) * (weights[0] / sum(weights))
        for start, weight in enumerate(weights[1:], start=1):
            total.add_(maps.narrow(dim, start, side), alpha=weight / sum(weights))
        maps = total
    return maps
