"""Active fooling against Equations 8 and 9, written out in loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.stats import spearmanr

from advfool.foolings import Active
from tests.helpers.foolings import each, fooled, maps, seeds, shapes


def by_equation_8(heatmaps, originals):
    def mse(a, b):
        return sum((a[place] - b[place]) ** 2 for place in np.ndindex(*a.shape)) / a.size

    return 0.5 * (mse(heatmaps[0], originals[1]) + mse(originals[0], heatmaps[1]))


def by_equation_9(heatmaps, originals):
    def s(a, b):
        return spearmanr(heatmaps[a].ravel(), originals[b].ravel()).statistic

    return [s(0, 1) - s(0, 0), s(1, 0) - s(1, 1)]


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
def test_active_is_equations_8_and_9(shape):
    heatmaps, original = maps(Active(), 4, *shape)
    torch.testing.assert_close(Active().penalty(heatmaps, original), each(by_equation_8, heatmaps, original))
    expected = each(by_equation_9, heatmaps, original)
    torch.testing.assert_close(Active().test_loss(heatmaps, original), expected, rtol=1e-10, atol=1e-10)


def test_active_shares_ranks_between_equal_values():
    heatmaps, original = (values.round(decimals=1) for values in maps(Active(), signed=True))
    expected = each(by_equation_9, heatmaps, original)
    torch.testing.assert_close(Active().test_loss(heatmaps, original), expected, rtol=1e-10, atol=1e-10)


def test_swapped_maps_have_no_penalty_and_are_fooled_while_untouched_ones_are_not():
    _, original = maps(Active())
    swapped = original.flip(1)
    assert Active().penalty(swapped, original).tolist() == [0.0] * 5
    s = torch.tensor([spearmanr(a.ravel(), b.ravel()).statistic for a, b in original.numpy()])
    expected = (1 - s)[:, None].expand(5, 2)
    torch.testing.assert_close(Active().test_loss(swapped, original), expected)
    torch.testing.assert_close(Active().test_loss(original, original), -expected)
    assert fooled(Active(), Active().test_loss(swapped, original)) == [[True, True]] * 5
    assert fooled(Active(), Active().test_loss(original, original)) == [[False, False]] * 5


def test_swapping_one_map_fools_that_class_alone():
    _, original = maps(Active())
    half = torch.stack([original[:, 1], original[:, 1]], dim=1)  # the map of c1 shows c2, that of c2 as before
    assert fooled(Active(), Active().test_loss(half, original)) == [[True, False]] * 5


@given(shapes, seeds)
@settings(max_examples=25)
def test_actives_test_loss_depends_on_the_order_of_the_relevance_alone(shape, seed):
    heatmaps, original = maps(Active(), *shape, seed)
    stretched = (3 * heatmaps).exp() - 2
    torch.testing.assert_close(Active().test_loss(stretched, original), Active().test_loss(heatmaps, original))


def test_a_composite_is_unusable_for_a_class_whose_own_map_is_degenerate():
    heatmaps, original = maps(Active())
    heatmaps[0, 0], heatmaps[1, 1] = 0.0, 1.0
    assert Active().test_loss(heatmaps, original).isnan()[:2].tolist() == [[True, False], [False, True]]
    heatmaps, original = maps(Active())
    original[0, 0], original[1, 1] = 0.0, 1.0  # both classes are compared with both
    assert Active().test_loss(heatmaps, original).isnan()[:2].all()


def test_signed_maps_are_swapped_as_they_are():
    heatmaps, original = maps(Active(), signed=True)
    torch.testing.assert_close(Active().penalty(heatmaps, original), each(by_equation_8, heatmaps, original))
    expected = each(by_equation_9, heatmaps, original)
    torch.testing.assert_close(Active().test_loss(heatmaps, original), expected, rtol=1e-10, atol=1e-10)
