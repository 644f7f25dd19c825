"""Confidence intervals of means over images."""

from inspect import signature
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import bootstrap
from torch import Tensor

from advfool.utilities.checking import checked
from advfool.utilities.kinds import Count, Inside, Positive, Seed

_DRAWN = 2_000_000  # images that are drawn at a time, which takes about 100 MB
_RNG = "rng" if "rng" in signature(bootstrap).parameters else "random_state"  # scipy 1.15 renamed it


@checked
def paired_interval(
    before: Float[Tensor, "n"], after: Float[Tensor, "n"], z: Positive = 1.96
) -> tuple[float, tuple[float, float] | None]:
    """Compute the mean of `before - after` over the same images, with its normal confidence interval.

    Args:
        before: a value for each image.
        after: another value for each image.
        z: half the width of the interval in standard errors; 1.96 for 95 %.

    Returns:
        The mean, and (low, high), which is None for a single image.
    """
    difference = before.double() - after.double()
    mean = difference.mean().item()
    if len(difference) < 2:
        return mean, None
    margin = z * difference.std(unbiased=True).item() / len(difference) ** 0.5
    return mean, (mean - margin, mean + margin)


@checked
def bootstrap_interval(
    values: Float[Tensor, "n *c"], level: Inside = 0.95, draws: Count = 1000, seed: Seed = 0
) -> tuple[Float[Tensor, "*c"], Float[Tensor, "*c"]]:
    """Compute the percentile bootstrap interval of the mean over the images.

    NaN values are left out of the means; a draw in which all values are NaN counts as the mean over all images. Every
    draw takes the same images in all columns.

    Args:
        values: values of the images, in any number of columns.
        level: share of the draws whose mean lies in the interval, above 0 and below 1.
        draws: how often the images are drawn.
        seed: decides the draws.

    Returns:
        (low, high) in float64, for each column; NaN for columns with fewer than two values that are not NaN.

    Source: Efron 1979; `scipy.stats.bootstrap(method="percentile")`.

    >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0, 1.0, 1.0]))
    >>> print(low.item(), high.item())
    0.25 1.0
    """
    n, columns = len(values), values.shape[1:]
    table = values.detach().double().cpu().reshape(n, columns.numel()).numpy()
    there = ~np.isnan(table)
    table, there = np.where(there, table, 0.0), there.astype(float)
    enough = there.sum(axis=0) >= 2
    if not enough.any():
        nothing = torch.full(columns, torch.nan, dtype=torch.float64)
        return nothing, nothing.clone()
    mean = table.sum(axis=0) / there.sum(axis=0).clip(min=1)

    def means(drawn: np.ndarray, axis: int) -> np.ndarray:
        """Compute the means (columns, draws) of draws of images, given by their positions (draws, n)."""
        start = n * np.arange(len(drawn))[:, None]
        times = np.bincount((drawn + start).ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
        count = times @ there
        return np.divide(times @ table, count, out=np.tile(mean, (len(drawn), 1)), where=count > 0).T

    options: dict[str, Any] = {"n_resamples": draws, "confidence_level": level, "method": "percentile"}
    options |= {"batch": max(1, _DRAWN // n), _RNG: np.random.default_rng(seed)}
    result = bootstrap((np.arange(n),), means, vectorized=True, **options)
    ends = (np.where(enough, end, np.nan) for end in result.confidence_interval)
    low, high = (torch.from_numpy(end).view(columns) for end in ends)
    return low, high
