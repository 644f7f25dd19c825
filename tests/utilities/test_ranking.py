"""Ranks and top positions against scipy."""

import warnings
from math import ceil

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from advfool.metrics import spearman
from advfool.utilities.ranking import _centred_ranks, rank_correlation, ranks, top_k_mask
from tests.helpers.similarity import maps, pairs, with_ties


def scipys_spearman(a, b):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        return torch.tensor([scipy.stats.spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("values", [maps(5, 3, 4), with_ties(5, 3, 4), with_ties(1, 1, 1), torch.zeros(2, 3, 3)])
def test_ranks_are_scipys(values):
    flat = values.flatten(1)
    expected = torch.from_numpy(scipy.stats.rankdata(flat.numpy(), axis=1))
    assert torch.equal(ranks(flat), expected)


def test_ranks_of_zeros_with_signs_infinities_and_tiny_numbers():
    values = torch.tensor([[0.0, -0.0, torch.inf, -torch.inf, 1e-45, -1e-45]])
    assert ranks(values).tolist() == [[3.5, 3.5, 6, 1, 5, 2]]
    assert ranks(torch.tensor([[5e-324, 0.0, -0.0, -5e-324]], dtype=torch.float64)).tolist() == [[4, 2.5, 2.5, 1]]


def test_ranks_of_values_that_differ_in_their_last_bit():
    values = torch.full((3, 40), 0.3, dtype=torch.float64)
    values[:, ::3] = torch.nextafter(values[:, ::3], torch.tensor(1.0))
    values[1, 7] = -0.3
    assert torch.equal(ranks(values), torch.from_numpy(scipy.stats.rankdata(values.numpy(), axis=1)))


def test_rows_with_nan_have_no_ranks_and_leave_the_others_alone():
    values = torch.tensor([[1.0, torch.nan, 2.0], [3.0, 1.0, 2.0]])
    assert ranks(values)[0].isnan().all()
    assert ranks(values)[1].tolist() == [3, 1, 2]


def test_ranks_on_other_devices_are_the_same(monkeypatch):
    """The branch for accelerators, taken on the CPU."""
    values = torch.cat([with_ties(), maps()]).flatten(1)
    expected = _centred_ranks(values)
    monkeypatch.setattr(torch.Tensor, "device", torch.device("meta"))
    assert torch.equal(_centred_ranks(values), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("make", [maps, with_ties])
def test_rank_correlation_is_scipys(make, dtype):
    a, b = make(seed=1).to(dtype), make(seed=2).to(dtype)
    expected = scipys_spearman(a.double().numpy(), b.double().numpy())
    torch.testing.assert_close(rank_correlation(a, b), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(spearman(a, b), expected, rtol=0, atol=1e-12)


def test_rank_correlation_of_many_and_of_large_maps():
    for shape in ((700, 14, 14), (2, 224, 224)):
        a, b = (torch.rand(*shape).sub(0.3).relu() for _ in range(2))
        expected = scipys_spearman(a.numpy(), b.numpy())
        torch.testing.assert_close(rank_correlation(a, b), expected, rtol=0, atol=1e-12)


def test_rank_correlation_never_raises():
    a, b = maps(4), maps(4, seed=1)
    a[1], a[2, 0, 0], b[3] = 0.3, torch.nan, torch.inf
    assert rank_correlation(a, b).isnan().tolist() == [False, True, True, True]
    assert rank_correlation(a[:0], b[:0]).shape == (0,)
    assert rank_correlation(a[:, :1, :1], b[:, :1, :1]).isnan().all()


@pytest.mark.parametrize(
    ("percent", "side", "count"), [(10, (10, 10), 10), (7, (10, 10), 7), (30, (1, 10), 3), (0.1, (30, 100), 3)]
)
def test_count_of_top_positions_is_exact(percent, side, count):
    assert top_k_mask(maps(2, *side), percent).sum(dim=(1, 2)).tolist() == [count, count]


@given(pairs, st.integers(1, 100))
def test_top_positions_by_sorting(pair, percent):
    for heatmap, mask in zip(pair[0], top_k_mask(pair[0], percent), strict=True):
        places = sorted(range(heatmap.numel()), key=lambda place: (-heatmap.view(-1)[place], place))
        chosen = set(places[: ceil(percent * heatmap.numel() / 100)])
        assert set(mask.view(-1).nonzero()[:, 0].tolist()) == chosen


def test_percentages_have_limits():
    assert top_k_mask(maps(1), 0).sum() == 1
    with pytest.raises(ValueError, match=r"^percent must lie in \[0, 100\], got 101$"):
        top_k_mask(maps(1), 101)
