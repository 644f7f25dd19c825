"""What a manipulation costs in accuracy: the drop, the ratio of errors, and whether the accuracy is kept.

Both networks classify the same images, so the counts are paired. Related images count as fewer: every count is divided
by the design effect (Rao & Scott 1992). Where few images differ, that is guessed as if one more cluster of usual size
had changed as a whole, so a run in which nothing differs has as many independent images as clusters.
"""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from advfool.metrics.functional.clusters import independent_images, numbered, spread_of_mean

Interval = tuple[float, float]
Verdict = Literal["kept", "lost", "not shown"]
Right = Float[Tensor, "n"]


def drop_interval(
    before: Right, after: Right, clusters: Int[Tensor, "n *k"] | None = None, level: float = 0.95
) -> tuple[float | None, Interval | None]:
    """Compute the accuracy lost on the same images, with an interval that has a width even where no image differs.

    Args:
        before: 1 for each image that the original network classifies correctly, else 0; NaN pairs are left out.
        after: the same of the manipulated network.
        clusters: a whole number for each image (or several), the same for those that are dependent; None where all
            are independent.
        level: of the interval, from 0 to 1.

    Returns:
        the drop, None without images; and (low, high), from -1 to 1, None where no two images are independent.

    Source: Bonett & Price 2012 (adjusted Wald interval); where no image differs, the rule of three of Hanley &
        Lippman-Hand 1983 in both directions.
    """
    pairs, clusters = _paired(before, after, clusters)
    if not len(pairs):
        return None, None
    difference = pairs[:, 0] - pairs[:, 1]
    drop = float(difference.mean())
    size = _independent(difference, clusters)
    if size is None:
        return drop, None
    each = size / len(pairs)
    lost, gained = each * (difference > 0).sum(), each * (difference < 0).sum()
    if not lost + gained:
        return drop, (-rule_of_three(size, level), rule_of_three(size, level))
    more, fewer = (lost + 1) / (size + 2), (gained + 1) / (size + 2)
    margin = _z(level) * math.sqrt((more + fewer - (more - fewer) ** 2) / (size + 2))
    return drop, (max(float(more - fewer - margin), -1.0), min(float(more - fewer + margin), 1.0))


def error_ratio(
    before: Right, after: Right, clusters: Int[Tensor, "n *k"] | None = None, level: float = 0.95
) -> tuple[float | None, Interval | None]:
    """Compute the manipulated network's errors over the original's: from 98.9 to 97.8 % right is twice the errors.

    Args:
        before: as in `drop_interval`.
        after: as in `drop_interval`.
        clusters: as in `drop_interval`.
        level: of the interval, from 0 to 1.

    Returns:
        the ratio and its (low, high); both None where the original network makes no error, and the interval where no
        two images are independent.

    Source: Bonett & Price 2006 (hybrid of Wilson's intervals); Fagerland, Lydersen & Laake 2014.
    """
    pairs, clusters = _paired(before, after, clusters)
    wrong = 1 - pairs
    own, other = wrong.sum(axis=0)
    if not own:
        return None, None
    ratio = float(other / own)
    size = _independent(pairs[:, 0] - pairs[:, 1], clusters)
    if size is None:
        return ratio, None
    each = size / len(pairs)
    own, other = each * own, each * other
    any_wrong, one_wrong = each * wrong.max(axis=1).sum(), each * np.abs(wrong[:, 0] - wrong[:, 1]).sum()
    joint = math.sqrt((one_wrong + 2) / ((other + 1) * (own + 1)))
    single = [math.sqrt((1 - (count + 1) / (any_wrong + 2)) / (count + 1)) for count in (other, own)]
    z = _z(level) * joint / sum(single)
    (low, high), (own_low, own_high) = (_wilson(count, any_wrong, z) for count in (other, own))
    return ratio, (float(low / own_high), float(high / own_low))


def accuracy_verdict(interval: Interval | None, margin: float) -> Verdict:
    """Say whether the accuracy was kept.

    Args:
        interval: of the drop; None where it is not known.
        margin: a drop below it counts as none.

    Returns:
        `kept` where the whole interval lies below the margin, `lost` where it lies above, else `not shown`.

    >>> accuracy_verdict((-0.002, 0.006), 0.01), accuracy_verdict((-0.002, 0.02), 0.01)
    ('kept', 'not shown')
    """
    if interval is None:
        return "not shown"
    low, high = interval
    return "kept" if high < margin else "lost" if low > margin else "not shown"


def rule_of_three(images: float, level: float = 0.95) -> float:
    """Compute the highest rate that agrees with no case among so many independent images, about 3 by their number.

    >>> round(rule_of_three(300), 4)
    0.0099
    """
    return 1 - (1 - level) ** (1 / images)


def _paired(before: Right, after: Right, clusters: Tensor | None) -> tuple[np.ndarray, Tensor | None]:
    """Keep the pairs (n, 2) without NaN, and their clusters."""
    pairs = np.stack([values.detach().double().cpu().numpy() for values in (before, after)], axis=1)
    known = np.asarray(np.isfinite(pairs).all(axis=1))
    return pairs[known], None if clusters is None else clusters.cpu()[torch.from_numpy(known)]


def _independent(difference: np.ndarray, clusters: Tensor | None) -> float | None:
    """Count the images by the design effect of their differences; None where no two are independent."""
    count = len(difference)
    spread = spread_of_mean(difference[:, None], numbered(clusters, count))
    if np.isnan(spread.variance[0]):
        return None
    usual = count / float(independent_images(spread.shared)[0])  # images in a cluster
    by_clusters = count**2 * spread.variance[0] * (1 - spread.shared[0])
    alone = np.square(difference - difference.mean()).sum()
    return count / max(1.0, (by_clusters + usual**2) / (alone + usual))


def _wilson(count: float, total: float, z: float) -> Interval:
    centre, reach = 2 * count + z**2, z * math.sqrt(max(z**2 + 4 * count * (1 - count / total), 0.0))
    return (centre - reach) / (2 * (total + z**2)), (centre + reach) / (2 * (total + z**2))


def _z(level: float) -> float:
    return float(stats.norm.ppf((1 + level) / 2))
