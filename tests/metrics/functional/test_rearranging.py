"""What moving relevance alone could reach, against every permutation of small maps."""

from itertools import permutations

import pytest
import torch

from advfool.metrics.functional import mass_on_region, rearranged_loss

REGIONS = {
    "frame": torch.tensor([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]]),
    "corner": torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]),
    "partly": torch.tensor([[0.3, 1, 0], [0, 0.7, 0], [0.5, 0, 0.2]]),
}
MAPS = {
    "random": torch.rand(3, 3, generator=torch.Generator().manual_seed(0)),
    "ties": torch.tensor([[0.0, 0, 1], [0.5, 0.5, 1], [0, 0, 0.5]]),
    "sharp": torch.tensor([[0.0, 0, 0], [0, 1, 0.1], [0, 0, 0]]),
}
ORDERS = torch.tensor(list(permutations(range(9))))


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", MAPS)
def test_no_permutation_has_a_lower_loss_and_one_has_this(kind, region):
    heatmap, mask = MAPS[kind], REGIONS[region]
    every = (heatmap.flatten()[ORDERS] - mask.flatten()).square().mean(dim=1)
    assert rearranged_loss(heatmap[None], mask).item() == pytest.approx(every.min().item(), abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.5, torch.nan])
def test_degenerate_maps_have_no_rearrangement(value):
    maps = torch.stack([torch.full((3, 3), value), MAPS["random"]])
    assert rearranged_loss(maps, REGIONS["frame"]).isnan().tolist() == [True, False]


@pytest.mark.parametrize("region", REGIONS)
def test_the_mass_is_that_of_a_loop_and_spread_evenly_the_area(region):
    mask = REGIONS[region]
    signed = torch.stack([*MAPS.values(), MAPS["random"] - 0.5, torch.ones(3, 3)])
    for heatmap, found in zip(signed, mass_on_region(signed, mask), strict=True):
        inside = sum(max(heatmap[i, j].item(), 0) * mask[i, j].item() for i in range(3) for j in range(3))
        total = sum(max(heatmap[i, j].item(), 0) for i in range(3) for j in range(3))
        assert found.item() == pytest.approx(inside / total)
    assert mass_on_region(torch.ones(1, 3, 3), mask).item() == pytest.approx(mask.mean().item())
    nothing = torch.stack([torch.zeros(3, 3), -torch.ones(3, 3), torch.full((3, 3), torch.inf)])
    assert mass_on_region(nothing, mask).isnan().all()
