"""Heatmaps normalised, framed and masked."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advfool.utilities.heatmaps import frame_mask, is_degenerate, normalise

maps = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10_000)).map(
    lambda s: torch.randn(*s[:3], generator=torch.Generator().manual_seed(s[3]), dtype=torch.float64)
)


@given(maps)
def test_max_normalisation_keeps_signs_and_reaches_one(heatmap):
    result = normalise(heatmap)
    torch.testing.assert_close(result.abs().amax(dim=(1, 2)), torch.ones(len(heatmap), dtype=torch.float64))
    assert torch.equal(result.sign(), heatmap.sign())


@given(maps)
def test_minmax_spans_zero_to_one(heatmap):
    result = normalise(heatmap, "minmax")
    constant = is_degenerate(heatmap)
    assert (result.amin(dim=(1, 2)) == 0).all()
    torch.testing.assert_close(result.amax(dim=(1, 2)), (~constant).double())


@pytest.mark.parametrize("how", ["max", "minmax"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_maps_have_no_nan_and_no_gradient_explosion(how, value):
    heatmap = torch.full((2, 3, 3), value, requires_grad=True)
    normalise(heatmap, how).sum().backward()
    assert heatmap.grad.isfinite().all()


def test_unknown_normalisation():
    with pytest.raises(ValueError, match="normalise must be 'max', 'minmax', 'sum' or 'none', got 'mean'"):
        normalise(torch.rand(1, 2, 2), "mean")


def test_degenerate_maps():
    heatmaps = torch.stack([torch.zeros(3, 3), torch.ones(3, 3), torch.eye(3), torch.full((3, 3), torch.nan)])
    assert is_degenerate(heatmaps).tolist() == [True, True, False, True]


@pytest.mark.parametrize(("side", "edge"), [(7, 1), (14, 2), (56, 8), (224, 32)])
def test_frame_is_a_seventh_wide(side, edge):
    mask = frame_mask(side, side)
    expected = [
        [1.0 if min(r, c, side - 1 - r, side - 1 - c) < edge else 0.0 for c in range(side)] for r in range(side)
    ]
    assert mask.tolist() == expected
