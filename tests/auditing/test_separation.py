"""How far two groups of scores are apart: against a loop over all pairs, and against all ways to draw the groups."""

from itertools import combinations

import pytest
import torch

from advfool.auditing.separation import separation


def auc_by_pairs(honest, fooled):
    points = [(f > h) + 0.5 * (f == h) for f in fooled for h in honest]
    return sum(points) / len(points)


def p_by_partitions(honest, fooled):
    """Twice the smaller tail of the AUC over all ways to draw the groups."""
    both, here = honest + fooled, auc_by_pairs(honest, fooled)
    found = []
    for drawn in combinations(range(len(both)), len(fooled)):
        other = [value for place, value in enumerate(both) if place not in drawn]
        found.append(auc_by_pairs(other, [both[place] for place in drawn]))
    tails = [sum(value >= here - 1e-12 for value in found), sum(value <= here + 1e-12 for value in found)]
    return min(1.0, 2 * min(tails) / len(found))


CASES = {
    "apart": ([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]),
    "the wrong way round": ([5.0, 6.0, 7.0], [1.0, 2.0, 3.0]),
    "mixed": ([0.1, 0.5, 0.3, 0.9], [0.2, 0.6, 0.7, 0.35, 0.8]),
    "ties": ([0.0, 0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 3.0]),
    "far from probabilities": ([1e4, 1.1e4, 9e3], [1.00001e4, 2e4, 1e5]),
    "hardly different": ([1.0, 1.0 + 1e-12, 1.0 + 3e-12], [1.0 + 2e-12, 1.0 + 4e-12, 1.0 + 5e-12]),
    "negative": ([-3.0, -2.5], [-2.7, -1.0, -0.5]),
}


@pytest.mark.parametrize("case", CASES)
def test_auc_and_p_are_those_of_loops(case):
    honest, fooled = CASES[case]
    found = separation(honest, fooled)
    assert found.auc == pytest.approx(auc_by_pairs(honest, fooled), abs=1e-6)
    assert found.p == pytest.approx(p_by_partitions(honest, fooled), abs=1e-9)


def test_networks_without_a_score_do_not_count():
    nan = float("nan")
    assert separation([0.0, nan, 1.0], [2.0, nan]) == separation([0.0, 1.0], [2.0])
    assert separation([nan], [1.0]) is None
    assert separation([1.0], []) is None


def test_equal_scores_say_nothing():
    found = separation([1.0] * 8, [1.0] * 8)
    assert found == (0.5, 1.0)


def test_one_network_alone_proves_nothing():
    for honest, fooled in (([0.1, 0.2], [0.1]), ([0.1], [0.1, 0.3]), ([0.1], [0.2])):
        assert separation(honest, fooled).p > 0.3


def test_large_groups_with_ties_have_a_p_value_that_is_the_same_each_time():
    generator = torch.Generator().manual_seed(0)
    honest = torch.randint(0, 5, (30,), generator=generator).double().tolist()
    fooled = torch.randint(2, 7, (30,), generator=generator).double().tolist()
    assert separation(honest, fooled) == separation(honest, fooled)
    assert separation(honest, fooled).auc == pytest.approx(auc_by_pairs(honest, fooled), abs=1e-6)
    assert separation(honest, fooled).p < 0.01
