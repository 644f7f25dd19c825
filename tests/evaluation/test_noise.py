"""Noise on parameters: what it is, that nothing of it stays, and the curves against a slower version."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advfool.data.composites import Composites, CompositeSplits
from advfool.data.samples import take
from advfool.evaluation.noise import noise_curve, parameter_noise
from advfool.foolings import Active, Location, Target, TopK
from advfool.foolings.base import CompositeFooling
from advfool.interpreters import LRP, GradCAM
from advfool.metrics import fooling_success_rate
from advfool.models import ResNetTiny
from advfool.utilities.errors import AdvfoolError
from tests.helpers.data import Pictures, RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup


class Odd(nn.Module):
    """A shared parameter, a frozen one, a single value, equal values, and buffers."""

    def __init__(self, dtype=torch.float32) -> None:
        super().__init__()
        self.first = nn.Linear(30, 30, dtype=dtype)
        self.second = nn.Linear(30, 30, dtype=dtype)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(30, dtype=dtype)
        self.scale = nn.Parameter(torch.tensor(-3.0, dtype=dtype))
        self.first.bias.requires_grad_(False)


def bits(network) -> list:
    return [(name, value.dtype, value.numpy().tobytes()) for name, value in network.state_dict().items()]


@settings(max_examples=30)
@given(
    level=st.floats(0, 1e3),
    seed=st.integers(0, 2**32),
    relative=st.booleans(),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    fails=st.booleans(),
)
def test_afterwards_the_network_is_what_it_was_bit_for_bit(level, seed, relative, dtype, fails):
    network = Odd(dtype)
    with torch.no_grad():
        network.second.bias[:4] = torch.tensor([-0.0, torch.nan, torch.inf, 6e-8])
    before, objects = bits(network), [(id(p), p.data_ptr(), p.requires_grad) for p in network.parameters()]
    try:
        with parameter_noise(network, level, seed, relative) as noisy:
            assert noisy is network
            assert torch.is_grad_enabled()
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert bits(network) == before
    assert [(id(p), p.data_ptr(), p.requires_grad) for p in network.parameters()] == objects


def test_the_noise_is_gaussian_in_units_of_each_tensor():
    network = nn.Sequential(nn.Linear(400, 300), nn.Linear(300, 200))
    with torch.no_grad():
        network[1].weight.mul_(7).add_(5)
    before = copy.deepcopy(network)
    for relative in (True, False):
        with parameter_noise(network, 0.3, 1, relative):
            for noisy, clean in zip(network.parameters(), before.parameters(), strict=True):
                unit = (noisy - clean).detach() / 0.3 / (clean.std(correction=0) if relative else 1)
                error = 5 / unit.numel() ** 0.5
                assert abs(unit.mean()) < error
                assert abs(unit.std() - 1) < error
                assert abs(unit.pow(4).mean() - 3) < 5 * error


def differences(network, *arguments, **options) -> list[torch.Tensor]:
    before = [p.detach().clone() for p in network.parameters()]
    with parameter_noise(network, *arguments, **options):
        return [(p.detach() - value) for p, value in zip(network.parameters(), before, strict=True)]


def test_a_seed_draws_the_same_noise_at_every_level_and_in_every_precision():
    network = ResNetTiny().double()
    small, large, other = (differences(network, *given) for given in ((0.01, 3), (2.0, 3), (0.01, 4)))
    single = differences(copy.deepcopy(network).float().to(memory_format=torch.channels_last), 2.0, 3)
    for few, many, single_, another in zip(small, large, single, other, strict=True):
        torch.testing.assert_close(200 * few, many, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(single_.double(), many, rtol=1e-4, atol=1e-5)
        assert not few.any() or not torch.allclose(few, another)


def test_what_relative_noise_leaves_alone():
    network = Odd()
    names = [name for name, _ in network.named_parameters()]
    assert len(names) == 6  # the shared one once
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    relative = dict(zip(names, differences(network, 1.0, 0), strict=True))
    assert {name for name, noise in relative.items() if not noise.any()} == {"scale", "norm.weight", "norm.bias"}
    absolute = dict(zip(names, differences(network, 1.0, 0, relative=False), strict=True))
    assert all(noise.any() for noise in absolute.values())
    with parameter_noise(network, 1.0, 0):
        assert network.first.weight is network.second.weight
        assert all(torch.equal(value, buffers[name]) for name, value in network.named_buffers())
    assert abs(relative["first.weight"].std() / network.first.weight.std() - 1) < 0.1


def test_gradients_inside_are_those_of_the_noisy_network_and_must_not_be_taken_outside():
    network, x = nn.Linear(5, 1), torch.randn(3, 5)
    with parameter_noise(network, 1.0, 0):
        expected = network.weight.detach().clone()
        loss = network(x).square().sum() / 2
        loss.backward()
        torch.testing.assert_close(network.weight.grad, (x @ expected.T + network.bias).T @ x)
        loss = (network(x) @ network.weight).sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("level", [-0.1, float("nan"), float("inf")])
def test_levels_are_standard_deviations(level):
    with pytest.raises(AdvfoolError, match=f"^level must be a number of at least 0, got {level}.$"):
        parameter_noise(nn.Linear(2, 2), level, 0).__enter__()


# Curves


@pytest.fixture(scope="module")
def networks():
    """Two networks that differ enough for their maps to be fooled here and there."""
    original, layer = build_tiny("resnet_tiny", torch.float32)
    manipulated = copy.deepcopy(original)
    with torch.no_grad():
        manipulated.layer3[1].conv2.weight.add_(0.05 * torch.randn_like(manipulated.layer3[1].conv2.weight))
        manipulated.fc.weight.add_(0.3 * torch.randn_like(manipulated.fc.weight))
    return original, manipulated, layer


def slowly(networks, interp, fooling, batch, images, level, seed, target="label"):
    """Accuracy and FSR of each network, from copies of it, all images at once; images: those that are classified."""
    found = []
    for network in networks[:2]:
        noisy = copy.deepcopy(network)
        generator = torch.Generator().manual_seed(seed)
        for parameter in noisy.parameters():
            unit = torch.randn(parameter.shape, generator=generator)
            parameter.data = parameter.data + level * parameter.data.std(unbiased=False) * unit
        labels = networks[0](batch.image).argmax(dim=1) if target == "predicted" else batch.label
        columns = labels if labels.dim() == 2 else labels[:, None]
        maps, originals = (
            torch.stack([interp(net, batch.image, classes) for classes in columns.T], dim=1).view(*labels.shape, 7, 7)
            for net in (noisy, networks[0])
        )
        if fooling.needs_another_class:
            other = fooling.compared_classes(labels, networks[0](batch.image))[:, 1]
            originals = torch.stack([originals, interp(networks[0], batch.image, other)], dim=1)
        rate = fooling_success_rate(fooling.test_loss(maps, originals), fooling.interval)
        found.append(((noisy(images.image).argmax(dim=1) == images.label).float().mean(), rate))
    return found


CASES = {
    "location": (Location(interval=(0.0, 0.33)), "label"),
    "topk": (TopK(interval=(0.0, 0.75)), "predicted"),
    "another_class": (Target(picture="another_class", interval=(-0.5, 2.0)), "label"),
    "active": (Active(interval=(-0.5, 2.0)), "label"),
}


@pytest.mark.parametrize("case", CASES)
def test_curves_are_those_of_noisy_copies(networks, case):
    (fooling, target), data = CASES[case], RandomData()
    composites, parts = None, take(data.test(), range(12))
    if isinstance(fooling, CompositeFooling):
        sources = tuple(torch.arange(12)[torch.arange(12) % 3 == c] for c in (0, 1))
        composites = CompositeSplits(*[Composites(data.test(), (3, 8), sources, 6, 0)] * 3)
    explained = parts if composites is None else take(composites.test, range(6))
    interp, levels = GradCAM(networks[2]), (0.0, 0.15)
    calls = []
    hooks = [network.register_forward_hook(lambda *_: calls.append(1)) for network in networks[:2]]
    setup = make_setup(networks[0], interp, fooling, data, composites, seed=3, target=target)
    curves = noise_curve(setup, networks[1], levels, 2)
    for hook in hooks:
        hook.remove()
    batches = 2 if composites is None else 2 + 1
    assert len(calls) == 2 * 3 * batches + (0 if case == "location" else 2 if composites is None else 1)
    assert list(curves) == ["original", "manipulated"]
    with torch.no_grad():
        for row, level in enumerate(levels):
            for draw in range(2):
                expected = slowly(networks, interp, fooling, explained, parts, level, 2 * 3 + draw, target)
                for curve, (accuracy, fsr) in zip(curves.values(), expected, strict=True):
                    assert curve.accuracy[row, draw] == accuracy
                    assert curve.fsr[row, draw] == pytest.approx(fsr.item())
    rates = torch.stack([torch.stack(curve) for curve in curves.values()])
    assert rates.shape == (2, 2, 2, 2)
    assert (rates[:, :, 0, 0] == rates[:, :, 0, 1]).all()
    assert len(rates[:, 1].unique()) > 2  # the interval is one that tells maps apart


def test_some_images_and_the_same_ones_whatever_the_batches(networks):
    data = RandomData()
    setup = make_setup(networks[0], GradCAM(networks[2]), Location(interval=(0.0, 0.33)), data, seed=1)
    given = (setup, networks[1], [0.2], 2, 7)
    one = noise_curve(*given)
    data.eval_batch_size = 20
    two = noise_curve(*given)
    for name in one:
        for rates, again in zip(one[name], two[name], strict=True):
            assert torch.equal(rates, again)
            assert ((7 * rates).round() - 7 * rates).abs().max() < 1e-5


@pytest.mark.parametrize("interp", [GradCAM("layer3.1"), LRP("layer3.1")], ids=["gradcam", "lrp_t"])
def test_noise_that_leaves_no_finite_number_is_no_success(networks, interp):
    setup = make_setup(networks[0], interp, Location(interval=(0, 1)), RandomData())
    curves = noise_curve(setup, networks[1], [1e30])
    assert all(rate == 0 for curve in curves.values() for rate in (curve.accuracy, curve.fsr))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": []}, "^Parameter noise is measured with at least one level, got 0.$"),
        ({"draws": 0}, "^Parameter noise is measured with at least one draw, got 0.$"),
        ({"images": 0}, "^Parameter noise is measured with at least one image, got 0.$"),
        ({"fooling": Active()}, "^composites must be given for Active, got None: active fooling, and it alone"),
        ({"composites": Pictures(3, RandomData.input)}, "^composites must be None for Location, got some: active"),
    ],
)
def test_what_cannot_be_measured(networks, options, message):
    given = {"fooling": Location(), "composites": None, "levels": [0.1]} | options
    samples = given.pop("composites")
    composites = samples and CompositeSplits(samples, samples, samples)
    setup = make_setup(networks[0], GradCAM("layer3.1"), given.pop("fooling"), RandomData(), composites)
    with pytest.raises(AdvfoolError, match=message):
        noise_curve(setup, networks[1], **given)
