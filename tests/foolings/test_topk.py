"""Top-k fooling against Equation 4, written out in loops."""

import math

import pytest
import torch

from advfool.foolings import TopK
from tests.helpers.foolings import by_equation_4, each, fooled, maps


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("k", [10, 0.1, 33.3, 100])
def test_topk_is_equation_4(shape, k, p):
    fooling = TopK(k=k, p=p)
    heatmaps, original = maps(fooling, 4, *shape)
    expected = each(by_equation_4, heatmaps, original, k, p)
    torch.testing.assert_close(fooling.penalty(heatmaps, original), expected)
    torch.testing.assert_close(fooling.test_loss(heatmaps, original), expected)


def test_topk_takes_the_first_of_equal_places():
    fooling = TopK()
    heatmaps, original = maps(fooling, 20, 8, 8)
    original = (original * 2).round() / 2  # three values only
    torch.testing.assert_close(
        fooling.penalty(heatmaps, original), each(by_equation_4, heatmaps, original, fooling.k, fooling.p)
    )


def test_topk_penalises_negative_relevance_at_the_top_places_of_the_signed_map():
    fooling = TopK()
    heatmaps, original = maps(fooling, signed=True)
    expected = each(by_equation_4, heatmaps, original, fooling.k, fooling.p)
    assert (heatmaps < 0).any()
    torch.testing.assert_close(fooling.penalty(heatmaps, original), expected)


def test_emptying_the_top_places_is_fooled_and_emptying_all_others_is_not():
    fooling = TopK()
    _, original = maps(fooling)
    flat = original.flatten(1)
    count = math.ceil(0.1 * flat.shape[1])
    top = (flat >= flat.sort(descending=True).values[:, count - 1 : count]).view(original.shape)
    emptied = torch.where(top, 0.0, original)
    assert fooling.test_loss(emptied, original).tolist() == [0.0] * 5
    assert fooled(fooling, fooling.test_loss(emptied, original)) == [True] * 5
    assert fooled(fooling, fooling.test_loss(torch.where(top, 1.0, 0.0).double(), original)) == [False] * 5
