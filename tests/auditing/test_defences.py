"""Defences: which interpreters are added to an audit, and what steps do to a fooled network."""

import copy

import pytest
import torch
from torch import nn

import advfool
from advfool.auditing.attack import Attempt
from advfool.auditing.defences import LEVEL, defended, what_helps
from advfool.auditing.protocol import Audit
from advfool.auditing.suite import OF_NETWORKS, AuditSettings, Trial
from advfool.evaluation.noise import parameter_noise
from advfool.foolings import Location
from advfool.interpreters import LRP, Aggregate, Captum, GradCAM, SimpleGrad, SmoothGrad, Softplus
from advfool.library.audit import suite_of
from advfool.models.batch_norm import batch_norms
from advfool.utilities.errors import AdvfoolError
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup

GRADCAM, LRP_T, OTHER = GradCAM("4", name="gradcam"), LRP("4", name="lrp_t"), Captum("Saliency", name="saliency")


def test_defended_interpreters_follow_those_they_are_made_of():
    given = {each.name: each for each in (GRADCAM, LRP_T, OTHER)}
    found = defended(given, ["aggregate", "smoothgrad", "softplus", "noise"])
    assert list(found) == [
        *given, "mean(gradcam+lrp_t)", "smoothgrad(gradcam)", "softplus(gradcam)", "smoothgrad(lrp_t)",
    ]  # fmt: skip
    mean, smooth, soft = (found[name] for name in list(found)[3:6])
    assert isinstance(mean, Aggregate)
    assert mean.interpreters == (GRADCAM, LRP_T)
    assert isinstance(smooth, SmoothGrad)
    assert isinstance(soft, Softplus)
    assert smooth.interpreter == soft.interpreter == GRADCAM
    assert defended(given, []) == given


def test_a_mean_of_one_interpreter_is_refused():
    with pytest.raises(AdvfoolError, match="at least two that can be trained through, got gradcam"):
        defended({"gradcam": GRADCAM, "saliency": OTHER}, ["aggregate"])


def fooled(network):
    """An audit's winning network, and the audit."""
    interpreter, other = SimpleGrad(name="simplegrad"), copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    setup = make_setup(network, interpreter, Location(name="location"), RandomData())
    selection = {"top1_drop": 0.0, "agreement": 1.0, "deceptive_rate": 1.0}
    trial = {"attack": "location", "slack": 1.0, "steps": 2, "free_layer": "fc", "selection": selection}
    record = {"interpreters": {"simplegrad": {"attack": "location", "trials": [trial]}}}
    return Audit(record, setup, {"simplegrad": other}), other


@pytest.mark.filterwarnings("ignore")
def test_steps_are_measured_on_the_test_images_and_leave_the_network_as_it_is(monkeypatch):
    audit, network = fooled(build_tiny("resnet_tiny", torch.float32)[0])
    before = copy.deepcopy(network.state_dict())
    treated = {}

    def measured(setup, found, *_):
        treated[len(treated)] = found
        return {"deceptive_rate": 0.25, "ci95": None, "fsr": 0.5, "top1_drop": 0.1, "attack": setup.fooling.name}

    def attacked(setup, trial, *_, rival):
        tried.append(trial)
        rates = {"location": 0.4, "topk": 0.95}
        return Attempt(
            trial,
            network,
            {"deceptive_rate": rates[setup.fooling.name], "top1_drop": 0.0, "agreement": 1.0},
            [],
            {},
            "",
            0.0,
        )

    tried = []
    monkeypatch.setattr("advfool.auditing.defences.measure_on_test", measured)
    monkeypatch.setattr("advfool.auditing.defences.attempt", attacked)
    settings = AuditSettings(steps=2, batch_size=4)
    found = what_helps(audit, settings, suite_of(settings), ["aggregate", *OF_NETWORKS])
    assert list(found["defences"]["simplegrad"]) == list(OF_NETWORKS)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    tuned, norms, noisy, centre, aware = treated.values()
    assert tried == [Trial(name, 8.0, 2, 1.0, held_layer="fc") for name in ("location", "topk")]  # which is enough
    assert found["defences"]["simplegrad"]["centre"]["aware"]["attack"] == "topk"
    assert all(torch.equal(value, aware.state_dict()[name]) for name, value in centre.state_dict().items())
    assert not torch.equal(tuned.state_dict()["conv1.weight"], before["conv1.weight"])
    moved = dict(batch_norms(norms))
    assert all(not torch.equal(module.running_mean, before[f"{name}.running_mean"]) for name, module in moved.items())
    assert all(torch.equal(value, before[name]) for name, value in norms.named_parameters())
    with parameter_noise(network, LEVEL, settings.seed):
        expected = copy.deepcopy(network.state_dict())
    assert all(torch.equal(value, expected[name]) for name, value in noisy.state_dict().items())
    differing = [name for name, value in centre.state_dict().items() if not torch.equal(value, before[name])]
    assert differing == ["fc.weight"]
    assert centre.state_dict()["fc.weight"].mean(dim=0).abs().max() < 1e-6


@pytest.mark.filterwarnings("ignore")
def test_a_network_without_batch_norm_has_no_statistics_to_estimate():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    audit, _ = fooled(plain.eval())
    settings = AuditSettings(steps=2, batch_size=4)
    found = what_helps(audit, settings, suite_of(settings), ["batch_norm", "noise"])["defences"]["simplegrad"]
    assert list(found) == ["noise"]
    assert -1 <= found["noise"]["top1_drop"] <= 1
    assert what_helps(audit, settings, suite_of(settings), ["aggregate"]) == {}


@pytest.mark.filterwarnings("ignore")
def test_an_audit_attacks_defended_interpreters_and_tells_what_steps_leave():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    ).eval()  # fmt: skip
    images = torch.randn(120, 1, 16, 16)
    options = {"top1": 0.5, "trials": 1, "steps": 2, "batch_size": 8, "accelerator": "cpu", "progress": False}
    interps = [GradCAM("3", name="gradcam"), SimpleGrad(name="simplegrad")]
    report = advfool.audit_interpreters(
        network, (images, torch.arange(120) % 2), interps, defences=["aggregate", "noise"], **options
    )
    assert list(report.record["interpreters"]) == ["gradcam", "simplegrad", "mean(gradcam+simplegrad)"]
    assert set(report.record["defences"]) == set(report.audit.networks)
    with pytest.raises(AdvfoolError, match="defences"):
        advfool.audit_interpreters(network, (images, torch.arange(120) % 2), interps, defences=["prayer"], **options)


def test_where_who_expects_the_step_finds_nothing_there_is_no_number(monkeypatch):
    audit, _ = fooled(build_tiny("resnet_tiny", torch.float32)[0])
    numbers = {"deceptive_rate": 0.25, "ci95": None, "fsr": 0.5, "top1_drop": 0.1}
    monkeypatch.setattr("advfool.auditing.defences.measure_on_test", lambda *_: numbers)
    nothing = lambda setup, trial, *_, **__: Attempt(trial, None, {}, [], {}, "", 0.0)  # noqa: E731
    monkeypatch.setattr("advfool.auditing.defences.attempt", nothing)
    settings = AuditSettings(steps=2, batch_size=4)
    found = what_helps(audit, settings, suite_of(settings), ["centre"])
    assert found["defences"]["simplegrad"]["centre"] == numbers | {"aware": None}
