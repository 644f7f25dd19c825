"""What Location could reach stands beside FSR: in metrics.json, on the console and in words."""

import io
import logging
from pathlib import Path

import pytest
import torch
from rich.console import Console

from advfool.evaluation.assembly import check_scale
from advfool.evaluation.comparison import compare_networks
from advfool.evaluation.console import print_results
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.summary import summarise
from advfool.foolings import CenterMass, Location, TopK
from advfool.foolings.base import rectified
from advfool.interpreters import GradCAM, SimpleGrad
from advfool.reporting.rows import columns_of
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup

INTERVAL = (0.0, 0.35)


@pytest.fixture(scope="module")
def measured():
    (network, layer), (other, _) = (build_tiny("resnet_tiny", torch.float32) for _ in range(2))
    data, interps = RandomData(), [GradCAM(layer, name="gradcam"), SimpleGrad(name="simplegrad", times_input=True)]
    setup = make_setup(network, interps, Location(interval=INTERVAL), data)
    results = compare_networks(setup, other, measuring_trainer("cpu", False))
    return setup, results, summarise(results, setup)


def test_rates_are_those_of_a_loop_over_the_images(measured):
    setup, _, metrics = measured
    batch = setup.data.test().__getitems__(list(range(12)))
    for name, interp in setup.interpreters.items():
        maps = interp(setup.original, batch.image, batch.label).detach()
        region = setup.fooling.target(*maps.shape[1:])
        reached, mass = [], []
        for each in maps:
            values = rectified(each[None])[0].flatten().tolist()
            pairs = zip(sorted(values), sorted(region.flatten().tolist()), strict=True)
            reached.append(sum((h - m) ** 2 for h, m in pairs) / len(values) <= INTERVAL[1])
            mass.append((each.relu() * region).sum() / each.relu().sum())
        assert metrics["fsr_rearranged"][name] == pytest.approx(sum(reached) / 12)
        assert metrics["frame_mass"][name]["original"] == pytest.approx(torch.stack(mass).nanmean().item(), abs=1e-5)
        assert metrics["frame_mass"][name]["area"] == pytest.approx(region.mean().item())
        assert len(metrics["ci95"]["fsr_rearranged"][name]) == 2
        assert len(metrics["ci95"]["frame_mass"][name]["manipulated"]) == 2
        assert columns_of(metrics, name)["frame_mass_area"] == metrics["frame_mass"][name]["area"]


def test_a_rate_of_zero_is_printed_in_words(measured):
    metrics = {**measured[2], "interp": "gradcam", "fsr_rearranged": {"gradcam": 0.0, "simplegrad": 0.5}}
    text = io.StringIO()
    print_results(metrics, Path("/nowhere"), Console(file=text, width=200))
    assert "out of reach by moving relevance alone" in text.getvalue()
    assert "50.0 %" in text.getvalue()


def test_other_foolings_have_no_such_rate(measured):
    setup = measured[0]
    others = make_setup(setup.original, list(setup.interpreters.values()), CenterMass(), setup.data)
    results = compare_networks(others, setup.original, measuring_trainer("cpu", False))
    assert "fsr_rearranged" not in summarise(results, others)


def test_location_refuses_maps_that_are_divided_by_their_sums(caplog):
    interp = SimpleGrad(name="simplegrad", normalise="sum")
    with pytest.raises(AdvfoolError, match=r"interp.normalise: expected max or minmax with fooling=location, got sum"):
        check_scale(Location(), {"simplegrad": interp})
    with caplog.at_level(logging.WARNING):
        check_scale(CenterMass(), {"simplegrad": interp})
        assert not caplog.records
        check_scale(TopK(), {"simplegrad": interp})
    assert "Top-k counts every map" in caplog.text


def test_sum_divides_by_the_sum_of_absolute_values_and_leaves_empty_maps():
    maps = torch.stack([torch.rand(5, 6) - 0.5, torch.rand(5, 6), torch.zeros(5, 6)])
    found = normalise(maps, "sum")
    assert found.abs().sum(dim=(1, 2)).tolist() == pytest.approx([1, 1, 0])
    torch.testing.assert_close(found[1], maps[1] / maps[1].sum())
