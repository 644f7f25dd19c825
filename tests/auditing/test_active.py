"""Active fooling as an attack of the suite: where the data pass its gate, and what is measured then."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from advfool.auditing import attack, protocol
from advfool.auditing.attack import attacked_by
from advfool.auditing.page import strip
from advfool.auditing.planning import meaningless
from advfool.auditing.protocol import audit_interpreter
from advfool.auditing.suite import FOOLINGS, AuditSettings
from advfool.data.samples import take
from advfool.evaluation.assembly import assemble, with_composites
from advfool.evaluation.comparison import compare_networks
from advfool.evaluation.selection import compared_on_selection
from advfool.evaluation.setup import AccuracySettings, FaithfulnessSettings, NullSettings, Settings
from advfool.evaluation.summary import summarise
from advfool.foolings import Active
from advfool.interpreters import GradCAM
from advfool.library.audit import fooling_of
from advfool.library.datasets import prepare_data
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import copied
from tests.helpers.networks import fit

ACTIVE = Active(train=32, test=24, batch_size=8, interval=(0.5, 2), name="active")
SETTINGS = AuditSettings(top1=0.1, trials=1, steps=60, batch_size=16, attacks=("active",), accelerator="cpu")


@pytest.fixture(scope="module")
def setup():
    """Images with a patch of one of three colours, a network that tells them apart by Grad-CAM, two colours to swap."""
    generator = torch.Generator().manual_seed(0)
    images, labels = 0.1 * torch.randn(400, 3, 32, 32, generator=generator), torch.arange(400) % 3
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = torch.randint(0, 17, (2,), generator=generator).tolist()
        image[label, top : top + 16, left : left + 16] += 2
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 9, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 3)
    )  # fmt: skip
    fit(network, images, labels, steps=100)
    data = prepare_data(network.eval(), (images, labels), None, None, None, None, 0, 16, 0)
    data.pair = (0, 1)
    images = with_composites(ACTIVE, data)[1].selection
    with torch.no_grad():  # composites hold both classes: without this, one of them is always predicted
        logits = network(take(images, range(len(images))).image)
        network[-1].bias[0] -= (logits[:, 0] - logits[:, 1]).median()
    settings = Settings(
        nulls=NullSettings(("sharpened_4",)), faithfulness=FaithfulnessSettings(24), accuracy=AccuracySettings(0.1)
    )
    return assemble(data, network, {"gradcam": GradCAM("2", name="gradcam")}, ACTIVE, settings, trains=False)


def test_a_swap_is_meant_where_both_maps_point_into_their_own_tiles(setup):
    assert meaningless(setup, {"active": ACTIVE, "topk": fooling_of("topk")}) == {}


def test_a_swap_means_nothing_without_two_classes(setup):
    data, setup.data.pair = setup.data.pair, (None, None)
    try:
        assert "data.pair" in meaningless(setup, {"active": ACTIVE})["active"]
    finally:
        setup.data.pair = data


def test_a_swap_means_nothing_where_maps_point_elsewhere(setup):
    class Elsewhere(GradCAM):
        def read(self, recording, targets):
            maps = torch.zeros_like(super().read(recording, targets))
            maps[..., 0, 0] = 1
            return maps

    own = replace(setup, interpreters={"gradcam": Elsewhere("2", name="gradcam")})
    assert "below 80%" in meaningless(own, {"active": ACTIVE})["active"]


def test_a_swap_of_classes_that_do_not_exist_is_an_error(setup):
    with pytest.raises(AdvfoolError, match="77"):
        meaningless(setup, {"active": replace(ACTIVE, c2=77)})


def test_a_swap_means_nothing_with_few_selection_images(setup):
    labels = setup.data.selection().labels().clone()
    labels[labels == 1] = 2
    few = copy.copy(setup.data)
    few.selection = lambda: SimpleNamespace(labels=lambda: labels)
    assert "has 0 selection images" in meaningless(replace(setup, data=few), {"active": ACTIVE})["active"]


def test_another_class_is_no_target_where_its_maps_are_empty(setup):
    class OneClass(GradCAM):
        def read(self, recording, targets):
            maps = super().read(recording, targets)
            return maps * (targets == 2).view(*targets.shape, 1, 1)

    other = {"another_class": fooling_of("another_class")}
    assert meaningless(setup, other) == {}
    own = replace(setup, interpreters={"gradcam": OneClass("2", name="gradcam")})
    assert "is empty" in meaningless(own, other)["another_class"]


def test_location_means_nothing_on_maps_of_another_scale(setup):
    own = replace(setup, interpreters={"gradcam": GradCAM("2", name="gradcam", normalise="sum")})
    assert "divided by its sum" in meaningless(own, {"location": fooling_of("location")})["location"]


def test_an_attack_that_takes_the_turn_of_another_is_looked_at_too(setup):
    own = replace(setup, interpreters={"gradcam": GradCAM("2", name="gradcam", normalise="sum")})
    settings = replace(SETTINGS, attacks=("location", "active"))
    data, setup.data.pair = setup.data.pair, (None, None)
    try:
        foolings = {"location": fooling_of("location"), "active": ACTIVE}
        found = audit_interpreter(own, own.trained, settings, foolings, progress=False)
    finally:
        setup.data.pair = data
    assert list(found.record["left_out"]) == ["location", "active"]
    assert found.record["verdict"] == "not attacked"
    assert found.record["curve"] == []


def test_an_interpreter_that_no_attack_is_tried_on_is_not_called_unbroken(setup):
    data, setup.data.pair = setup.data.pair, (None, None)
    try:
        found = audit_interpreter(setup, setup.trained, SETTINGS, {"active": ACTIVE}, progress=False)
    finally:
        setup.data.pair = data
    assert found.record["verdict"] == "not attacked"
    assert not found.record["trials"]
    assert "data.pair" in found.record["left_out"]["active"]


def test_other_attacks_have_no_composites(setup):
    assert attacked_by(setup, fooling_of("location")).composites is None
    assert attacked_by(setup, ACTIVE).pair == (0, 1)


def test_the_attack_is_trained_on_composites(setup):
    found = audit_interpreter(setup, setup.trained, SETTINGS, {"active": ACTIVE}, progress=False)
    (trial,) = found.record["trials"]
    assert found.record["left_out"] == {}
    assert trial["attack"] == "active"
    assert "failed" not in trial["outcome"]
    assert trial["visits"][-1]["moved"] > 0.1


@pytest.fixture
def noisy(setup):
    """The classifier with noise on its parameters: its maps of one class change more than those of the other."""
    network, generator = copied(setup.original), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.6 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    return network


def uneven(explained):
    """Say that of c1 three of four composites are deceived, and of c2 one of four, by every interpreter."""
    for column, values in explained.items():
        if column.startswith("deceived/"):
            every = torch.arange(len(values)) % 4
            explained[column] = (every < 3 if column.endswith("/c1") else every == 0).to(values)


def test_of_both_classes_the_one_that_is_deceived_less_often_counts(setup, noisy, monkeypatch):
    own, found = attacked_by(setup, ACTIVE), {}

    def compared(*args):
        results = compare_networks(*args)
        uneven(results.explained)
        found.update(summarise(results, args[0]))
        return results

    monkeypatch.setattr(protocol, "compare_networks", compared)
    measured = protocol.measure_on_test(own, noisy, SETTINGS, {"other": GradCAM("1", name="other")})
    assert found["deceptive_rate"]["gradcam"] == {"c1": 0.75, "c2": 0.25}
    assert measured["deceptive_rate"] == 0.25
    assert measured["ci95"] == found["ci95"]["deceptive_rate"]["gradcam"]["c2"]
    assert measured["transfer"] == {"other": 0.25}
    for key in ("fsr", "n_deceptive", "faithful_before", "degenerate", "fsr_null", "fsr_null_control"):
        assert measured[key] == found[key]["gradcam"]["c2"]


def test_attacks_are_judged_by_the_smaller_rates_of_both_classes(setup, noisy, monkeypatch):
    def compared(*args):
        own, results = compared_on_selection(*args)
        uneven(results.explained)
        results.explained["test_loss/gradcam/manipulated/c2"][:] = 1.0
        results.explained["test_loss/gradcam/manipulated/c1"][:] = torch.tensor([1.0, 0.0]).repeat(12)
        return own, results

    monkeypatch.setattr(attack, "compared_on_selection", compared)
    found = attack.judged(attacked_by(setup, ACTIVE), noisy, SETTINGS)
    assert (found["deceptive_rate"], found["fsr"]) == (0.25, 0.5)


def test_the_strip_shows_composites(setup, noisy):
    assert strip(attacked_by(setup, ACTIVE), "gradcam", noisy).startswith(b"\x89PNG")


def test_the_command_line_has_the_attacks_of_the_suite():
    foolings = {name: fooling_of(name) for name in FOOLINGS}
    assert [fooling.name for fooling in foolings.values()] == list(FOOLINGS)
    assert foolings["another_class"].needs_another_class
