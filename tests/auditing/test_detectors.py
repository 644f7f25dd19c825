"""Each detector on networks of which the answer is known, or against a loop."""

import copy
import math

import pytest
import torch
from torch import nn

from advfool.auditing.detectors import (
    DETECTORS,
    Auditor,
    BatchNormShift,
    CommonDirection,
    LogitDistance,
    MapDisagreement,
    MapFaithfulness,
    NoiseSensitivity,
    WeightDistance,
)
from advfool.data.samples import take
from advfool.evaluation.noise import noise_curve
from advfool.evaluation.setup import FaithfulnessSettings
from advfool.foolings import Location
from advfool.interpreters import GradCAM, LayerCAM, SimpleGrad
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics.functional import faithfulness, kl_divergence, spearman
from advfool.models.batch_norm import batch_norms, re_estimated
from advfool.training.free_direction import find_free_layer
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny, snapshot
from tests.helpers.setups import make_setup

FAITHFUL = FaithfulnessSettings(images=8, random_orders=3, steps=3)
INTERPS = [GradCAM("layer3.1", name="gradcam"), SimpleGrad(name="simplegrad")]


class LikeTest(RandomData):
    """Its selection images are its test images."""

    def selection(self):
        return self.parts["test"]


@pytest.fixture(scope="module")
def auditor():
    network, _ = build_tiny("resnet_tiny", torch.float32)
    return Auditor(make_setup(network, INTERPS, Location(), LikeTest(), faithfulness=FAITHFUL), 12)


@pytest.fixture(scope="module")
def original(auditor):
    return auditor.setup.original


def moved(network, by=0.05):
    other = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += by * parameter.std(correction=0) * torch.randn(parameter.shape, generator=generator)
    return other


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda each: each.name)
def test_a_detector_leaves_the_network_alone_and_repeats_itself(auditor, original, detector):
    network = moved(original)
    before = snapshot(network)
    first, second = detector.score(network, auditor), detector.score(network, auditor)
    assert first == second
    assert math.isfinite(first)
    after = snapshot(network)
    assert before[3:5] == after[3:5]
    assert all(torch.equal(value, after[2][name]) for name, value in before[2].items())


def test_maps_are_held_against_random_orders(auditor, original):
    network, batch = moved(original), take(auditor.setup.data.test(), range(12))
    values = []
    for interpreter in INTERPS:
        maps = interpreter(network, batch.image, batch.label).detach()
        values.append(faithfulness(network, batch.image, batch.label, maps, 3, 3, index=batch.index).value)
    assert MapFaithfulness().score(network, auditor) == pytest.approx(
        -torch.cat(values).double().mean().item(), abs=1e-6
    )


def test_disagreement_is_that_of_maps_on_the_coarser_grid(auditor, original):
    batch = take(auditor.setup.data.test(), range(12))
    recording = record(original, batch.image, INTERPS)
    coarse, fine = (read_maps(interpreter, recording, batch.label).detach() for interpreter in INTERPS)
    assert coarse.shape[-1] < fine.shape[-1]
    small = nn.functional.adaptive_avg_pool2d(fine, coarse.shape[-2:])
    expected = -spearman(coarse, small).nanmean().item()
    assert MapDisagreement().score(original, auditor) == pytest.approx(expected, abs=1e-6)


def test_interpreters_that_say_the_same_do_not_disagree_and_one_alone_cannot(original):
    same = [GradCAM("layer3.1", name="a"), GradCAM("layer3.1", name="b"), LayerCAM("layer3.1", name="c")]
    for interpreters, expected in ((same[:2], -1.0), (same[:1], math.nan)):
        setup = make_setup(original, interpreters, Location(), LikeTest(), faithfulness=FAITHFUL)
        assert MapDisagreement().score(original, Auditor(setup, 12)) == pytest.approx(expected, nan_ok=True)
    setup = make_setup(original, same, Location(), LikeTest(), faithfulness=FAITHFUL)
    assert MapDisagreement().score(original, Auditor(setup, 12)) > -1.0


def test_noise_costs_what_the_noise_curve_says(auditor, original):
    network, detector = moved(original), NoiseSensitivity((0.1, 0.3), 2)
    curve = noise_curve(auditor.setup, network, [0.0, 0.1, 0.3], draws=2)["manipulated"].accuracy
    expected = (curve[0, 0] - curve[1:].mean()).item()
    assert detector.score(network, auditor) == pytest.approx(expected, abs=1e-6)


def test_batch_norm_fits_right_after_it_was_estimated(auditor, original):
    images = [batch.image for batch in auditor.batches]
    fitted = re_estimated(original, images)
    assert BatchNormShift().score(fitted, auditor) == pytest.approx(0, abs=1e-6)
    assert BatchNormShift().score(original, auditor) > 1e-3
    shifted = copy.deepcopy(fitted)
    for _, module in batch_norms(shifted):
        module.running_mean += 0.5 * (module.running_var + module.eps).sqrt()
    assert BatchNormShift().score(shifted, auditor) == pytest.approx(0.5, abs=1e-5)
    assert math.isnan(BatchNormShift().score(nn.Sequential(nn.Flatten(), nn.Linear(9408, 10)), auditor))


def test_estimating_batch_norm_anew_changes_nothing_else(original):
    images = [torch.randn(6, 3, 56, 56)]
    before = snapshot(original)
    other = re_estimated(original, images)
    assert all(torch.equal(value, before[2][name]) for name, value in original.state_dict().items())
    changed = {name for name, value in other.state_dict().items() if not torch.equal(value, before[2][name])}
    assert changed
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in changed)
    assert not any(module.training for module in other.modules())


def test_distances_to_the_original_are_zero_for_itself_and_known_otherwise(auditor, original):
    assert WeightDistance().score(original, auditor) == 0
    assert LogitDistance().score(original, auditor) == 0
    scaled = copy.deepcopy(original)
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter *= 1.25
    assert WeightDistance().score(scaled, auditor) == pytest.approx(0.25, abs=1e-6)
    assert math.isnan(WeightDistance().score(nn.Linear(2, 2), auditor))
    network, batch = moved(original), take(auditor.setup.data.test(), range(12))
    with torch.no_grad():
        expected = kl_divergence(original(batch.image), network(batch.image)).mean().item()
    assert LogitDistance().score(network, auditor) == pytest.approx(expected, rel=1e-4)


def test_images_are_drawn_from_the_selection_images_alone(original):
    class Sealed(RandomData):
        def test(self):
            raise AssertionError("test images were looked at")

    auditor = Auditor(make_setup(original, INTERPS, Location(), Sealed(), faithfulness=FAITHFUL), 5)
    assert sum(len(batch.label) for batch in auditor.batches) == 5
    assert all(math.isfinite(each.score(original, auditor)) for each in DETECTORS)


def test_what_is_added_to_all_rows_of_the_last_layer_is_seen_without_images(original, auditor):
    layer = find_free_layer(original, take(auditor.setup.data.test(), range(2)).image)
    before, other = CommonDirection().score(original, auditor), copy.deepcopy(original)
    rows = original.get_submodule(layer).weight.detach().double()
    assert before == pytest.approx((rows.mean(0).norm() / rows.square().sum(1).mean().sqrt()).item())
    with torch.no_grad():
        other.get_submodule(layer).weight.add_(10 * torch.ones(1, rows.shape[1]))
    assert 0 <= before < 0.9 < CommonDirection().score(other, auditor) <= 1
    assert math.isnan(CommonDirection().score(nn.Sequential(original, nn.Tanh()), auditor))
