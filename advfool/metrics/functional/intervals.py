"""Confidence intervals of means over images."""

from inspect import signature
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from scipy.stats import bootstrap
from torch import Tensor

from advfool.metrics.functional.clusters import Spread, numbered, spread_of_mean, standard_errors
from advfool.utilities.checking import checked
from advfool.utilities.kinds import Count, Inside, Positive, Seed

_DRAWN = 2_000_000  # images that are drawn at a time, which takes about 100 MB
_SHAPE = 4  # of the gamma weights: as skewed as the times that a cluster is drawn with replacement
_RNG = "rng" if "rng" in signature(bootstrap).parameters else "random_state"  # scipy 1.15 renamed it


def mean_interval(
    values: Float[Tensor, "n"], clusters: Int[Tensor, "n *k"] | None = None, level: float = 0.95
) -> tuple[float, float] | None:
    """Compute the confidence interval of a mean over images, by the normal distribution or, with clusters, by t.

    Args:
        values: a value for each image; NaN is left out.
        clusters: a whole number for each image (or several), the same for those that are dependent; None where all
            are independent.
        level: of the interval, from 0 to 1.

    Returns:
        (low, high); None where no two images are independent.

    Source: see `advfool.metrics.functional.clusters`.
    """
    table = _table(values)
    spread = spread_of_mean(table, numbered(clusters, len(values)))
    variance = spread.variance.item()
    if variance != variance:
        return None
    errors = stats.norm.ppf((1 + level) / 2) if clusters is None else standard_errors(spread.shared, level).item()
    mean, margin = np.nanmean(table).item(), float(errors) * variance**0.5
    return mean - margin, mean + margin


@checked
def paired_interval(
    before: Float[Tensor, "n"],
    after: Float[Tensor, "n"],
    z: Positive = 1.96,
    clusters: Int[Tensor, "n *k"] | None = None,
) -> tuple[float, tuple[float, float] | None]:
    """Compute the mean of `before - after` over the same images, with its normal confidence interval.

    The interval of a difference of rates that are 0 or 1 is `drop_interval`, which has a width where no image differs.

    Args:
        before: a value for each image.
        after: another value for each image.
        z: half the width of the interval in standard errors; 1.96 for 95 %.
        clusters: as in `mean_interval`.

    Returns:
        The mean, and (low, high), which is None where no two images are independent.
    """
    difference = before.double() - after.double()
    variance = spread_of_mean(_table(difference), numbered(clusters, len(difference))).variance.item()
    mean, margin = difference.nanmean().item(), z * variance**0.5
    return mean, None if variance != variance else (mean - margin, mean + margin)


@checked
def bootstrap_interval(
    values: Float[Tensor, "n *c"],
    level: Inside = 0.95,
    draws: Count = 1000,
    seed: Seed = 0,
    clusters: Tensor | None = None,
) -> tuple[Float[Tensor, "*c"], Float[Tensor, "*c"]]:
    """Compute the percentile bootstrap interval of the mean over the images.

    NaN values are left out of the means; a draw in which all values are NaN counts as the mean over all images. Every
    draw takes the same images in all columns.

    With one cluster for each image, whole clusters are drawn. With several, every cluster draws a weight of mean 1, and
    an image has the product of the weights of its clusters. Products exaggerate what is an image's own, so the
    deviations of the draws from the mean are scaled to the variance of the mean (`spread_of_mean`). Both take wider
    percentiles, as Student's t is wider than the normal distribution.

    Args:
        values: values of the images, in any number of columns.
        level: share of the draws whose mean lies in the interval, above 0 and below 1.
        draws: how often the images are drawn.
        seed: decides the draws.
        clusters: a whole number for each image, the same for those that depend on each other (drawings of one scan);
            or several numbers for each image, which depends on all that share one of them (the photos of a composite).
            None where all images are independent.

    Returns:
        (low, high) in float64, for each column; NaN for columns whose values all have the same clusters.

    Raises:
        AdvfoolError: `clusters` are not whole numbers for each image.

    Source: Efron 1979; `scipy.stats.bootstrap(method="percentile")`. Clusters: Davison & Hinkley 1997, 3.8; products of
        weights: Owen & Eckles 2012; percentiles: Hesterberg 2015, 3.3.

    >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0, 1.0, 1.0]))
    >>> print(low.item(), high.item())
    0.25 1.0
    """
    columns = values.shape[1:]
    table = _table(values)
    codes = numbered(clusters, len(table))
    spread = spread_of_mean(table, codes)
    enough = _enough(table, codes)
    if not enough.any():
        nothing = torch.full(columns, torch.nan, dtype=torch.float64)
        return nothing, nothing.clone()
    means = _drawn(table, codes, draws, seed) if codes.shape[1] == 1 else _weighted(table, codes, spread, draws, seed)
    tails = (1 - level) / 2 if clusters is None else _tails(spread, level)
    ends = (_quantiles(means, share) for share in (tails, 1 - tails))
    low, high = (torch.from_numpy(np.where(enough, end, np.nan)).view(columns) for end in ends)
    return low, high


def _table(values: Float[Tensor, "n *c"]) -> np.ndarray:
    """Bring values to double precision on the CPU, one row for each image."""
    return values.detach().double().cpu().reshape(len(values), values.shape[1:].numel()).numpy()


def _drawn(table: np.ndarray, codes: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Compute the means (draws, columns) of draws of whole clusters."""
    count = codes.max() + 1
    there = np.zeros((count, table.shape[1]))
    sums = np.zeros_like(there)
    np.add.at(there, codes[:, 0], ~np.isnan(table))
    np.add.at(sums, codes[:, 0], np.nan_to_num(table))
    mean = sums.sum(axis=0) / there.sum(axis=0).clip(min=1)

    def means(drawn: np.ndarray, axis: int) -> np.ndarray:
        """Compute the means (columns, draws) of draws of clusters, given by their numbers (draws, clusters)."""
        start = count * np.arange(len(drawn))[:, None]
        times = np.bincount((drawn + start).ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
        seen = times @ there
        return np.divide(times @ sums, seen, out=np.tile(mean, (len(drawn), 1)), where=seen > 0).T

    options: dict[str, Any] = {"n_resamples": draws, "method": "percentile", "batch": max(1, _DRAWN // count)}
    options[_RNG] = np.random.default_rng(seed)
    return bootstrap((np.arange(count),), means, vectorized=True, **options).bootstrap_distribution.T


def _weighted(table: np.ndarray, codes: np.ndarray, spread: Spread, draws: int, seed: int) -> np.ndarray:
    """Compute the means (draws, columns) in which images have the products of their clusters' weights, scaled."""
    generator, count = np.random.default_rng(seed), codes.max() + 1
    there, values = (~np.isnan(table)).astype(float), np.nan_to_num(table)
    mean = values.sum(axis=0) / there.sum(axis=0).clip(min=1)
    found = []
    for start in range(0, draws, at_a_time := max(1, _DRAWN // len(table))):
        drawn = generator.gamma(_SHAPE, 1 / _SHAPE, (min(at_a_time, draws - start), count))
        weights = np.concatenate([drawn, np.ones((len(drawn), 1))], axis=1)  # -1, a cluster named again: weight 1
        product = weights[:, codes].prod(axis=2)
        seen = product @ there
        found.append(np.divide(product @ values, seen, out=np.tile(mean, (len(drawn), 1)), where=seen > 0))
    deviations = np.concatenate(found) - mean
    own = deviations.std(axis=0)
    right = np.sqrt(spread.variance * (1 - spread.shared))  # the percentiles make up for the pairs in common
    scale = np.divide(right, own, out=np.ones_like(own), where=(own > 0) & np.isfinite(right))
    return mean + deviations * scale  # unscaled where all images have a cluster in common


def _enough(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Tell for each column whether values that are not NaN have different clusters."""
    names = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1) if len(codes) else np.zeros(0)
    return np.array([len(np.unique(names[~np.isnan(column)])) > 1 for column in table.T])


def _tails(spread: Spread, level: float) -> np.ndarray:
    """Compute the share of draws below the interval that gives it the width of Student's t."""
    shared = np.minimum(spread.shared, 1 - 1e-9)
    return stats.norm.cdf(-standard_errors(shared, level) / np.sqrt(1 - shared))


def _quantiles(means: np.ndarray, shares: float | np.ndarray) -> np.ndarray:
    """Compute a quantile of the draws of each column, at a share of its own."""
    each = np.broadcast_to(np.asarray(shares), means.shape[1:])
    return np.array([np.quantile(column, share) for column, share in zip(means.T, each, strict=True)])
