"""How well one number tells two groups of networks apart, also where the groups are small."""

from collections.abc import Sequence
from math import comb
from typing import Any, NamedTuple

import torch
from scipy.stats import PermutationMethod, mannwhitneyu, rankdata
from torchmetrics.functional.classification import binary_auroc

PARTITIONS = 20_000  # with ties the test is exact up to so many ways to draw the groups, and beyond it asymptotic


class Separation(NamedTuple):
    """How well scores tell fooled networks from honest ones.

    Args:
        auc: area under the ROC curve: the chance that a fooled network scores above an honest one, ties counting half.
        p: of the two-sided Mann-Whitney test: how often groups of one kind are at least as far apart.
    """

    auc: float
    p: float


def separation(honest: Sequence[float], fooled: Sequence[float]) -> Separation | None:
    """Compare the scores of honest and of fooled networks.

    The p-value is exact; with ties it is so for small groups.

    Args:
        honest: scores of honest networks; NaN: has none.
        fooled: scores of fooled networks; higher is more suspicious.

    Returns:
        the AUC and its p-value; None where a group has no score.
    """
    groups = [[value for value in group if value == value] for group in (honest, fooled)]
    if not all(groups):
        return None
    both = groups[0] + groups[1]
    ranks = torch.from_numpy(rankdata(both)) / len(both)  # in (0, 1]; other values would be squashed by a sigmoid
    truth = torch.tensor([0] * len(groups[0]) + [1] * len(groups[1]))
    if len(set(both)) == 1:
        return Separation(0.5, 1.0)
    method: Any = _method(both, len(groups[0]))
    p = mannwhitneyu(groups[1], groups[0], alternative="two-sided", method=method).pvalue
    return Separation(binary_auroc(ranks, truth).item(), float(p))


def _method(both: Sequence[float], first: int) -> PermutationMethod | str:
    """Choose how the p-value is computed: exactly wherever that is possible."""
    if len(set(both)) == len(both):
        return "exact"
    ways, alone = comb(len(both), first), min(first, len(both) - first) == 1  # scipy permutes no group of one
    return PermutationMethod(n_resamples=ways) if ways <= PARTITIONS and not alone else "asymptotic"
