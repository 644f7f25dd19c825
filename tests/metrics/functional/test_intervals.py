"""Intervals against scipy's."""

import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.stats
import torch

from advfool import metrics
from advfool.metrics.functional import paired_interval


def test_paired_interval_against_scipy():
    from scipy.stats import norm

    before, after = torch.randint(2, (2, 500)).float()
    mean, (low, high) = paired_interval(before, after)
    difference = (before - after).double().numpy()
    expected = norm.interval(0.95, difference.mean(), difference.std(ddof=1) / 500**0.5)
    assert mean == pytest.approx(difference.mean())
    assert (low, high) == pytest.approx(expected, abs=1e-5)
    assert paired_interval(before[:1], after[:1])[1] is None


def test_bootstrap_is_scipys():
    table = torch.rand(40, 3, dtype=torch.float64)
    low, high = metrics.bootstrap_interval(table, level=0.9, draws=200, seed=4)
    expected = scipy.stats.bootstrap(
        (table.numpy(),),
        np.mean,
        n_resamples=200,
        confidence_level=0.9,
        method="percentile",
        random_state=np.random.default_rng(4),
    ).confidence_interval
    np.testing.assert_allclose(low, expected.low, rtol=1e-12)
    np.testing.assert_allclose(high, expected.high, rtol=1e-12)
    column = metrics.bootstrap_interval(table[:, 1], level=0.9, draws=200, seed=4)
    assert torch.stack(column).tolist() == pytest.approx([low[1].item(), high[1].item()])
    assert metrics.bootstrap_interval(table[:, 1])[0] != metrics.bootstrap_interval(table[:, 1], seed=1)[0]


def test_bootstrap_leaves_nan_out_of_the_means():
    """The draws are the same, so the means over those that have a value are numpy's nanmean of them."""
    column = torch.rand(30)
    column[::4] = torch.nan
    rng = np.random.default_rng(0)
    means = np.nanmean(column.double().numpy()[rng.integers(0, 30, (1000, 30))], axis=1)
    found = torch.stack(metrics.bootstrap_interval(column)).numpy()
    np.testing.assert_allclose(found, np.percentile(means, [2.5, 97.5]), rtol=1e-12)


def test_bootstrap_of_too_few_values_is_nan():
    nan = torch.nan
    table = torch.tensor([[nan, 1.0, 1.0, 0.5], [nan, nan, 1.0, 0.5], [nan, nan, nan, 0.5], [nan, nan, nan, 0.5]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = metrics.bootstrap_interval(table)
        assert low.isnan().tolist() == high.isnan().tolist() == [True, True, False, False]
        assert (low[2:] == torch.tensor([1, 0.5])).all()
        assert (high[2:] == torch.tensor([1, 0.5])).all()
        for few in (table[:1], table[:0], table[:, :1]):
            assert torch.stack(metrics.bootstrap_interval(few)).isnan().all()
        assert metrics.bootstrap_interval(torch.ones(1))[0].shape == ()


def test_bootstrap_of_a_whole_validation_set_stays_small():
    table = torch.rand(50_000, 40)
    tracemalloc.start()
    low, high = metrics.bootstrap_interval(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20
    assert (low < table.mean(dim=0)).all()
    assert (table.mean(dim=0) < high).all()
    assert (high - low).mean().item() == pytest.approx(2 * 1.96 * (1 / 12 / 50_000) ** 0.5, rel=0.05)
