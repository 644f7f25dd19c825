"""Controls: heatmaps that no attack made, judged as if they were manipulated ones."""

import pytest
import torch
from torch import nn

from advfool.data import DigitsModule, InputFormat
from advfool.data.composites import composite_splits
from advfool.data.samples import take
from advfool.evaluation.comparison import compare_networks
from advfool.evaluation.controls import blurred, noise, partners, sharpened, untrained
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.setup import FaithfulnessSettings, NullSettings
from advfool.evaluation.summary import summarise
from advfool.foolings import Active, TopK
from advfool.interpreters import GradCAM
from advfool.metrics import deceived, faithfulness, is_fooled
from advfool.utilities.errors import AdvfoolError
from tests.helpers.setups import make_setup

ALL = (
    "honest_finetune",
    "sharpened_4",
    "sharpened_16",
    "blurred",
    "noise",
    "another_image",
    "independent",
    "untrained",
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return DigitsModule(InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3), str(cache), limit_test=20, eval_batch_size=8)


def compared(digits, networks, fooling, composites=None):
    first, second, layer = networks
    settings = {
        "faithfulness": FaithfulnessSettings(images=12, random_orders=2, steps=3),
        "nulls": NullSettings(ALL, images=7),
    }
    setup = make_setup(first, GradCAM(layer, name="gradcam"), fooling, digits, composites, **settings)
    object.__setattr__(setup, "controls", {"honest_finetune": second, "independent": second})
    return compare_networks(setup, second, measuring_trainer("cpu", False)), setup


def test_every_control_is_judged_as_its_parts_say(digits, networks):
    first, second, layer = networks
    results, setup = compared(digits, networks, TopK())
    rows, interp = results.nulls, GradCAM(layer)
    batch = take(digits.test(), range(20))
    tested = ~rows["noise/gradcam/deceived"].isnan()
    with torch.no_grad():
        own = interp(first, batch.image, batch.label).float()
        prediction = first(batch.image).argmax(dim=1)
        other = take(digits.test(), partners(digits.test().labels(), batch.index, 0))
        maps = {
            "sharpened_16": sharpened(own, 16),
            "blurred": blurred(own),
            "noise": noise(own, batch.index, 0),
            "another_image": interp(first, other.image, other.label),
            "independent": interp(second, batch.image, batch.label),
            "untrained": interp(untrained(first, 0), batch.image, batch.label),
        }
    options = {"random_orders": 2, "steps": 3, "index": batch.index}
    before = faithfulness(first, batch.image, batch.label, own, **options).faithful
    explained, yes = prediction == batch.label, torch.ones(20, dtype=torch.bool)
    chosen = torch.randperm(20, generator=torch.Generator().manual_seed(0))[:7]
    assert set(rows["index"][tested].tolist()) <= set(chosen.tolist())
    for name, found in maps.items():
        loss = TopK().test_loss(found, own).float()
        torch.testing.assert_close(rows[f"{name}/gradcam/test_loss"], loss, atol=1e-5, rtol=1e-4, equal_nan=True)
        after = faithfulness(first, batch.image, batch.label, found, **options).faithful
        expected = deceived(loss, TopK().interval, yes, explained, before, after)
        torch.testing.assert_close(rows[f"{name}/gradcam/deceived"][chosen], expected[chosen], equal_nan=True)
    # The honest network's heatmaps are judged on itself, where the prediction stays.
    with torch.no_grad():
        after = interp(second, batch.image, batch.label)
        kept = second(batch.image).argmax(dim=1) == prediction
    faithful = faithfulness(second, batch.image, batch.label, after, **options).faithful
    expected = deceived(TopK().test_loss(after, own), TopK().interval, kept, explained, before, faithful)
    torch.testing.assert_close(rows["honest_finetune/gradcam/deceived"][chosen], expected[chosen], equal_nan=True)
    summary = summarise(results, setup)
    assert set(summary["nulls"]["gradcam"]) == set(ALL)
    sharp = is_fooled(rows["sharpened_16/gradcam/test_loss"], TopK().interval).float().mean().item()
    assert summary["nulls"]["gradcam"]["sharpened_16"]["fsr"] == pytest.approx(sharp)
    negative = {name: summary["nulls"]["gradcam"][name]["fsr"] for name in ALL[:4]}
    assert summary["fsr_null"]["gradcam"] == max(negative.values()) == negative[summary["fsr_null_control"]["gradcam"]]
    assert len(summary["ci95"]["nulls"]["gradcam"]["noise"]["fsr"]) == 2


def test_both_classes_of_composites_have_nulls(digits, networks):
    splits = composite_splits(digits, (3, 8), 10, 6)
    results, setup = compared(digits, networks, Active(), splits)
    summary = summarise(results, setup)
    assert set(summary["nulls"]["gradcam"]["noise"]["fsr"]) == set(summary["fsr_null"]["gradcam"]) == {"c1", "c2"}


def test_sharpening_keeps_signs_and_the_maximum():
    maps = torch.randn(5, 6, 6)
    found = sharpened(maps, 16)
    assert torch.equal(found.abs().flatten(1).argmax(dim=1), maps.abs().flatten(1).argmax(dim=1))
    assert (found * maps >= 0).all()
    assert found.abs().amax() == 1


def test_controls_depend_on_the_image_alone():
    index, maps = torch.tensor([4, 9, 2]), torch.rand(3, 5, 5)
    assert torch.equal(noise(maps, index, 1)[1:], noise(maps[1:], index[1:], 1))
    assert not torch.equal(noise(maps, index, 1), noise(maps, index, 2))
    labels = torch.arange(10) % 3
    assert partners(labels, index, 1)[1:] == partners(labels, index[1:], 1)


@pytest.mark.parametrize("labels", [torch.arange(12) % 2, torch.zeros(12).long(), torch.tensor([[0, 1]] * 12)])
def test_the_other_image_is_of_another_class_where_there_is_one(labels):
    for own, other in enumerate(partners(labels, torch.arange(12), 0)):
        assert own != other
        assert labels.dim() == 2 or labels[own] != labels[other] or not labels.any()
    assert partners(torch.tensor([3]), torch.tensor([0]), 0) == [0]


def test_an_untrained_network_has_other_parameters_and_leaves_the_first_alone():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.scale = nn.Linear(4, 3), nn.Parameter(torch.arange(6.0))

    network = Scaled().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fresh = untrained(network, 1)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    assert torch.equal(fresh.scale.sort().values, before["scale"])  # what has no beginning of its own is shuffled
    again = untrained(network, 1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in fresh.state_dict().items())


def test_an_unknown_control_is_refused():
    with pytest.raises(AdvfoolError, match="sharpened_16"):
        NullSettings(("sharper",))
