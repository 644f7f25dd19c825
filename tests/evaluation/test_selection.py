"""The numbers that a search compares runs by, against a loop over the selection images."""

import copy
from dataclasses import replace

import pytest
import torch

from advfool.data.composites import composite_splits
from advfool.data.samples import Sample, take
from advfool.evaluation.comparison import compare_networks
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.selection import measure_selection
from advfool.evaluation.setup import FaithfulnessSettings
from advfool.foolings import Active, CenterMass, Location
from advfool.interpreters import GradCAM, SimpleGrad
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.sealed import sealed_test_images
from tests.helpers.setups import make_setup


@pytest.mark.parametrize("fooling", [Location(), CenterMass(), Active(interval=(-2, 0.1), c1=0, c2=1, test=5)])
def test_the_numbers_are_those_of_a_loop_over_the_selection_images(fooling):
    networks = build_tiny("resnet_tiny", torch.float32)[0], build_tiny("resnet_tiny", torch.float32)[0]
    layer = build_tiny("resnet_tiny", torch.float32)[1]
    with torch.no_grad():
        networks[1].fc.weight.add_(0.5 * torch.randn_like(networks[1].fc.weight))
    data, active = RandomData(counts=(60, 43, 12)), isinstance(fooling, Active)
    interp = GradCAM(layer, name="gradcam")
    with sealed_test_images():
        composites = composite_splits(data, (0, 1), 5, 5) if active else None
        setup = make_setup(networks[0], [interp, SimpleGrad(name="simplegrad")], fooling, data, composites)
        setup = replace(setup, settings=replace(setup.settings, faithfulness=FaithfulnessSettings(images=0)))
        found = measure_selection(setup, networks[1], measuring_trainer("cpu", False))
    images = composites.selection if composites else data.selection()
    fooled: list = []
    for index in range(len(images)):
        sample = Sample(*(values[0] for values in take(images, [index])))
        classes = sample.label.tolist() if active else [int(sample.label)]
        before, after = (
            torch.cat([interp(net, sample.image[None], torch.tensor([c])) for c in classes]).detach()
            for net in networks
        )
        if active:
            before, after = before[None], after[None]  # one composite
        loss = fooling.test_loss(after, before).flatten().tolist()
        fooled.append([fooling.interval[0] <= value <= fooling.interval[1] for value in loss])
    rates = [sum(column) / len(fooled) for column in zip(*fooled, strict=True)]
    expected = dict(zip(("c1", "c2"), rates, strict=True)) if active else rates[0]
    assert found["fsr"] == {"gradcam": pytest.approx(expected)}
    singles = [Sample(*(values[0] for values in take(data.selection(), [index]))) for index in range(43)]
    for name, net in zip(("original", "manipulated"), networks, strict=True):
        right = [net(sample.image[None]).argmax().item() == sample.label.item() for sample in singles]
        assert found["accuracy"][name] == pytest.approx(sum(right) / 43)
    top1 = found["accuracy"]
    assert top1["drop"] == top1["original"] - top1["manipulated"]
    assert (found["n_images"], found["n_images_fsr"]) == (43, len(images))
    assert "deceptive_rate" not in found  # faithfulness was not measured


@pytest.mark.parametrize("fooling", [CenterMass(interval=(0.0, 1.0)), Active(interval=(-2, 2), c1=0, c2=1, test=5)])
@pytest.mark.parametrize("most", [7, 128])
def test_the_deceptive_rate_is_that_of_the_rows_of_the_selection_images(fooling, most, monkeypatch):
    monkeypatch.setattr("advfool.evaluation.selection.IMAGES", most)
    original, layer = build_tiny("resnet_tiny", torch.float32)
    manipulated = copy.deepcopy(original)
    with torch.no_grad():
        manipulated.fc.weight.add_(0.05 * torch.randn_like(manipulated.fc.weight))
    data, active = RandomData(counts=(60, 43, 12)), isinstance(fooling, Active)
    composites = composite_splits(data, (0, 1), 5, 5) if active else None
    interps = [GradCAM(layer, name="gradcam"), SimpleGrad(name="simplegrad")]
    setup = make_setup(original, interps, fooling, data, composites)
    faithfulness = FaithfulnessSettings(images=20, random_orders=1, steps=3)
    setup = replace(setup, settings=replace(setup.settings, faithfulness=faithfulness, target="predicted"))
    with sealed_test_images():
        found = measure_selection(setup, manipulated, measuring_trainer("cpu", False))
    count = min(20, most, found["n_images_fsr"])
    assert found["n_images_faithfulness"] == count
    narrow = replace(setup.settings, faithfulness=replace(faithfulness, images=count))
    rows = compare_networks(
        replace(setup, settings=narrow), manipulated, measuring_trainer("cpu", False), "selection"
    ).explained
    for which in ("/c1", "/c2") if active else ("",):
        loss = rows[f"test_loss/gradcam/manipulated{which}"].tolist()
        before, after = (rows[f"faithful/gradcam/{name}{which}"].tolist() for name in ("original", "manipulated"))
        classes = [rows[f"prediction/{name}"].tolist() for name in ("original", "manipulated")]
        counted = [place for place, value in enumerate(before) if value == 1]
        if active:
            counted = [place for place in counted if classes[0][place] == int(which == "/c2")]
        low, high = fooling.interval
        deceived = [
            low <= loss[place] <= high and classes[0][place] == classes[1][place] and after[place] == 0
            for place in counted
        ]
        expected = sum(deceived) / len(deceived) if deceived else None
        rate, number = found["deceptive_rate"]["gradcam"], found["n_deceptive"]["gradcam"]
        assert (number[which[1:]] if active else number) == len(counted)
        assert (rate[which[1:]] if active else rate) == (None if expected is None else pytest.approx(expected))
