"""Images that are not independent, and the variance of a mean over them.

Images are dependent where they share a cluster: drawings of one scan, composites with a photo in common. An image is
in one cluster, or in several of equal standing.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.sparse import csr_array
from torch import Tensor

from advfool.utilities.errors import AdvfoolError

MOST_CLUSTERS = 8  # that an image is in: sets of them are counted


class Spread(NamedTuple):
    """The variance of means over images, for each column.

    Args:
        variance: of the mean; NaN where no two images are independent.
        shared: share of the pairs of images that have a cluster in common, an image with itself among them.
    """

    variance: np.ndarray
    shared: np.ndarray


def numbered(clusters: Tensor | None, count: int) -> np.ndarray:
    """Number the clusters from 0; a cluster that is named twice for one image is -1 the second time.

    Args:
        clusters: a whole number for each image, or several; None where every image is on its own.
        count: number of images.

    Returns:
        numbers (n, k).

    Raises:
        AdvfoolError: they are no whole numbers, not of so many images, or more than 8 for an image.
    """
    if clusters is None:
        return np.arange(count)[:, None]
    fits = clusters.dim() in (1, 2) and len(clusters) == count and not clusters.is_floating_point()
    if not fits or (clusters.dim() == 2 and not 1 <= clusters.shape[1] <= MOST_CLUSTERS):
        raise AdvfoolError(
            f"clusters: expected a whole number (or up to {MOST_CLUSTERS}) for each of {count} images, got "
            f"{clusters.dtype} of shape {tuple(clusters.shape)}."
        )
    codes = clusters.reshape(count, clusters.shape[1] if clusters.dim() == 2 else 1).cpu().numpy()
    codes = np.sort(np.unique(codes, return_inverse=True)[1].reshape(codes.shape), axis=1)
    codes[:, 1:][codes[:, 1:] == codes[:, :-1]] = -1
    return codes


def spread_of_mean(table: np.ndarray, codes: np.ndarray) -> Spread:
    """Estimate the variance of the mean of each column, where images that share a cluster are dependent.

    It is the sum of the products of the deviations from the mean, over all pairs of images that share a cluster, by
    the square of the number of images; with one cluster for each image, the well-known variance by clusters. It is
    divided by the share of pairs that have no cluster in common, because the deviations are from the images' own mean:
    for independent images this is the variance with n - 1.

    Args:
        table: values (n, columns); NaN is left out.
        codes: of the clusters, as `numbered` returns them.

    Source: Aronow, Samii & Assenova 2015 (several clusters for an image); Cameron, Gelbach & Miller 2011.
    """
    there = ~np.isnan(table)
    count = there.sum(axis=0).clip(min=1)
    values = np.where(there, table, 0.0)
    deviations = np.where(there, values - values.sum(axis=0) / count, 0.0)
    products, pairs = np.zeros(table.shape[1]), np.zeros(table.shape[1])
    for size, sums in _sums_over_sets(codes):
        sign = 1 if size % 2 else -1  # pairs that share several clusters are counted once in all
        products += sign * np.square(sums @ deviations).sum(axis=0)
        pairs += sign * np.square(sums @ there.astype(float)).sum(axis=0)
    if codes.shape[1] > 1:
        products = np.maximum(products, np.square(deviations).sum(axis=0))  # the sum over pairs may be negative
    shared = np.where(there.any(axis=0), pairs / count**2, 1.0)
    apart = np.where(shared < 1 - 1e-9, 1 - shared, np.nan)
    return Spread(products / count**2 / apart, shared)


def independent_images(shared: np.ndarray) -> np.ndarray:
    """Count how many independent images have the same share of pairs in common; clusters of one size: their number."""
    return 1 / np.maximum(shared, 1e-12)


def standard_errors(shared: np.ndarray, level: float) -> np.ndarray:
    """Compute half the width of an interval by Student's t, in standard errors, for few independent images.

    Args:
        shared: as in `Spread`.
        level: of the interval, from 0 to 1.
    """
    freedom = np.maximum(independent_images(shared) - 1, 1e-3)
    return np.asarray(stats.t.ppf((1 + level) / 2, freedom))


def _sums_over_sets(codes: np.ndarray) -> Iterator[tuple[int, csr_array]]:
    """Yield for each size the sets of clusters that occur together, as a matrix that sums over the images in each."""
    count, most = codes.shape
    for size in range(1, most + 1):
        chosen = [codes[:, places] for places in combinations(range(most), size)]
        sets, images = np.concatenate(chosen), np.tile(np.arange(count), len(chosen))
        whole = (sets >= 0).all(axis=1)
        names, found = np.unique(sets[whole], axis=0, return_inverse=True)
        ones = np.ones(int(whole.sum()))
        yield size, csr_array((ones, (found.reshape(-1), images[whole])), shape=(len(names), count))
