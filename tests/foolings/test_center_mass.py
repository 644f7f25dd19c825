"""Center-mass fooling against Equation 5, written out in loops."""

import math

import numpy as np
import pytest
import torch

from advfool.foolings import CenterMass
from tests.helpers.foolings import each, fooled, maps


def centre_of_mass(heatmap):
    row = col = total = 0.0
    for place in np.ndindex(*heatmap.shape):
        row, col = row + place[0] * heatmap[place], col + place[1] * heatmap[place]
        total += heatmap[place]
    return row / total, col / total


def by_equation_5(heatmap, original, norm=1):
    moved = [abs(a - b) for a, b in zip(centre_of_mass(heatmap), centre_of_mass(original), strict=True)]
    return sum(moved) if norm == 1 else sum(m**2 for m in moved) ** 0.5


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
def test_center_mass_is_equation_5(shape):
    heatmaps, original = maps(CenterMass(), 4, *shape)
    expected = each(by_equation_5, heatmaps, original)
    torch.testing.assert_close(CenterMass().penalty(heatmaps, original), -expected)
    diagonal = math.hypot(*shape)
    torch.testing.assert_close(CenterMass().test_loss(heatmaps, original), expected / diagonal)
    l2 = CenterMass(test_norm=2)
    torch.testing.assert_close(l2.penalty(heatmaps, original), -expected)  # the option is of the test loss alone
    expected = each(by_equation_5, heatmaps, original, 2)
    torch.testing.assert_close(l2.test_loss(heatmaps, original), expected / diagonal)


def test_mass_from_corner_to_corner_counts_as_one_diagonal_at_most():
    here, there = torch.zeros(2, 1, 7, 7, dtype=torch.float64)
    here[0, 0, 0] = there[0, 6, 6] = 1
    assert CenterMass().penalty(there, here).item() == -12
    assert CenterMass().test_loss(there, here).item() == 1
    assert CenterMass(test_norm=2).test_loss(there, here).item() == pytest.approx(6 / 7)
    assert fooled(CenterMass(), CenterMass().test_loss(there, here)) == [True]


def test_a_map_that_stays_has_not_moved():
    heatmaps, _ = maps(CenterMass())
    assert CenterMass().test_loss(heatmaps, heatmaps).tolist() == [0.0] * 5
    assert fooled(CenterMass(), CenterMass().test_loss(heatmaps, heatmaps)) == [False] * 5


def test_a_map_without_mass_counts_as_unmoved():
    heatmaps, original = maps(CenterMass())
    assert CenterMass().penalty(torch.zeros_like(heatmaps), original).abs().tolist() == [0.0] * 5
    assert CenterMass().penalty(-heatmaps, original).abs().tolist() == [0.0] * 5


def test_a_centre_that_has_not_moved_has_a_direction_to_go():
    heatmaps = torch.rand(3, 7, 7)
    moved = heatmaps.clone().requires_grad_()
    CenterMass().penalty(moved, heatmaps).sum().backward()
    assert (moved.grad.flatten(1).abs().amax(dim=1) > 0).all()
