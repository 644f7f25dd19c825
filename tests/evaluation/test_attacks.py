"""PGD against captum's, and what it leaves alone."""

import copy
from functools import partial

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from captum import robust
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advfool.data.samples import take
from advfool.evaluation import attacks
from advfool.evaluation.attacks import adversarial_accuracy, pgd
from advfool.utilities.errors import AdvfoolError
from tests.helpers.attacks import INPUT, in_ball
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny

ATTACK = {"epsilon": 0.03, "step": 0.008, "steps": 6}


@pytest.fixture(scope="module")
def network():
    return build_tiny("resnet_tiny", torch.float64)[0]


@pytest.fixture(scope="module")
def batch():
    """Images of which some pixels are black or white, so that clipping matters."""
    generator = torch.Generator().manual_seed(0)
    pixels = (torch.rand(6, 3, 56, 56, dtype=torch.float64, generator=generator) * 1.2 - 0.1).clamp(0, 1)
    return INPUT.normalise(pixels), torch.arange(6)


class OnPixels(nn.Module):
    def __init__(self, network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network(INPUT.normalise(pixels))


class AlongTheGradient(robust.FGSM):
    """Steps of a length, which captum's own PGD lacks: it takes the sign in both balls."""

    def _perturb(self, inputs, grads, epsilon, targeted, masks):
        lengths = (gradient.flatten(1).norm(dim=1)[:, None, None, None] for gradient in grads)
        return tuple(x + epsilon * g / length for x, g, length in zip(inputs, grads, lengths, strict=True))


def captums(network, batch, norm, start=None, step_class=AlongTheGradient, **attack):
    images, labels = batch
    arguments = (OnPixels(network), partial(F.cross_entropy, reduction="none"))
    captum = robust.PGD(*arguments, 0, 1)
    if norm == "l2":
        captum.fgsm = step_class(*arguments)  # unbounded, as captum's own: it clips after the projection
    captum.fgsm.zero_thresh = 0
    if start is not None:
        captum._random_point = lambda center, *_: start
    names = {"linf": "Linf", "l2": "L2"}
    found = captum.perturb(
        INPUT.pixels(images),
        attack["epsilon"],
        attack["step"],
        attack["steps"],
        labels,
        random_start=start is not None,
        norm=names[norm],
    )
    return INPUT.normalise(found)


SIZES = {"linf": {"epsilon": 0.03, "step": 0.008}, "l2": {"epsilon": 1.5, "step": 0.4}}


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("norm", SIZES)
def test_pgd_is_captums(network, batch, norm, random_start):
    attack = {**SIZES[norm], "steps": 8}
    found = pgd(network, *batch, INPUT, **attack, norm=norm, random_start=random_start, seed=5)
    start = (
        INPUT.pixels(pgd(network, *batch, INPUT, **attack | {"steps": 0}, norm=norm, seed=5)) if random_start else None
    )
    expected = captums(network, batch, norm, start, **attack)
    assert (found - expected).abs().max() < 1e-6
    assert (found - batch[0]).abs().max() > 0.02


def losses(network, images, labels):
    with torch.no_grad():
        return F.cross_entropy(network(images), labels, reduction="none")


def test_steps_along_the_gradient_climb_higher_than_its_sign(network, batch):
    """Why l2 is not captum's own."""
    attack = {"epsilon": 0.5, "steps": 20}
    found = pgd(network, *batch, INPUT, **attack, step=0.06, norm="l2", random_start=False)
    ours = losses(network, found, batch[1])
    for step in (0.0005, 0.001, 0.01):
        others = captums(network, batch, "l2", step_class=robust.FGSM, step=step, **attack)
        assert (ours > losses(network, others, batch[1])).all()


@settings(max_examples=15)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0, 3),
    step=st.floats(0, 5),
    steps=st.integers(0, 2),
    seed=st.integers(0, 2**63 - 1),
)
def test_images_stay_in_the_ball_and_in_the_range_of_pixels(norm, epsilon, step, steps, seed):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).double()
    pixels = (torch.rand(3, 3, 8, 8, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)
    images, labels = INPUT.normalise(pixels), torch.arange(3)
    found = pgd(network, images, labels, INPUT, epsilon, step, steps, norm=norm, seed=seed)
    black, white = INPUT.normalise(torch.zeros_like(found)), INPUT.normalise(torch.ones_like(found))
    assert ((found >= black - 1e-12) & (found <= white + 1e-12)).all()
    assert in_ball(found, images, epsilon, norm)
    if epsilon == 0:
        torch.testing.assert_close(found, images, rtol=0, atol=1e-12)


def test_starts_are_uniform_in_the_ball():
    clean, index = torch.zeros(500, 3, 4, 4), torch.arange(500)
    box = attacks._somewhere(clean, "linf", 0, index, 0)
    assert scipy.stats.kstest(box.flatten()[::7].numpy(), "uniform", (-1, 2)).pvalue > 0.01
    ball = attacks._somewhere(clean, "l2", 0, index, 0).flatten(1)
    assert scipy.stats.kstest(ball.norm(dim=1).pow(48).numpy(), "uniform").pvalue > 0.01
    direction = F.normalize(ball, dim=1)
    assert direction.mean(dim=0).abs().max() < 5 / (48 * 500) ** 0.5
    torch.testing.assert_close(48 * direction.T @ direction / 500, torch.eye(48), rtol=0, atol=0.3)


def test_of_several_restarts_each_image_keeps_the_worst(network, batch, monkeypatch):
    attack = {**ATTACK, "epsilon": 0.05, "steps": 1, "seed": 3}
    found = pgd(network, *batch, INPUT, **attack, restarts=4)
    somewhere, each = attacks._somewhere, []
    for restart in range(4):
        monkeypatch.setattr(attacks, "_somewhere", lambda *given, restart=restart: somewhere(*given[:4], restart))
        each.append(pgd(network, *batch, INPUT, **attack))
    reached = torch.stack([losses(network, images, batch[1]) for images in each])
    torch.testing.assert_close(losses(network, found, batch[1]), reached.amax(dim=0), rtol=1e-9, atol=1e-9)
    best = reached.argmax(dim=0)
    assert len(best.unique()) > 1
    torch.testing.assert_close(found, torch.stack(each)[best, torch.arange(6)], rtol=0, atol=1e-9)


def test_an_image_is_attacked_alike_in_any_batch(network, batch):
    images, labels = batch
    together = pgd(network, images, labels, INPUT, **ATTACK, restarts=2, index=torch.arange(10, 16))
    alone = pgd(network, images[4:], labels[4:], INPUT, **ATTACK, restarts=2, index=torch.tensor([14, 15]))
    torch.testing.assert_close(together[4:], alone, rtol=0, atol=1e-9)
    other = pgd(network, images[4:], labels[4:], INPUT, **ATTACK, restarts=2)
    assert not torch.allclose(other, alone)


@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_network_and_the_images_are_left_as_they_were(network, batch, around):
    network = copy.deepcopy(network)
    network.fc.weight.requires_grad_(False)
    network.conv1.weight.grad = torch.ones_like(network.conv1.weight)
    expected = pgd(network, *batch, INPUT, **ATTACK)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with around():
        images, labels = (values.clone() for values in batch)
        found = pgd(network, images, labels, INPUT, **ATTACK)
    assert torch.equal(found, expected)
    assert torch.equal(images, batch[0])
    assert not found.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert (network.conv1.weight.grad == 1).all()
    assert network.fc.bias.grad is None
    assert not network.fc.weight.requires_grad


def test_adversarial_accuracy_is_that_of_all_images_at_once():
    data, network = RandomData(), build_tiny("resnet_tiny", torch.float32)[0]
    batch = take(data.test(), range(12))
    attacked = pgd(network, batch.image, batch.label, data.input, **ATTACK)
    labels = network(attacked).argmax(dim=1).detach()
    data.parts["test"].batch = batch = batch._replace(label=labels)  # others, of which some hold
    attacked = pgd(network, batch.image, batch.label, data.input, **ATTACK)
    expected = (network(attacked).argmax(dim=1) == labels).double().mean().item()
    for size in (5, 12):
        data.eval_batch_size = size
        assert adversarial_accuracy(network, data.test_dataloader(), data.input, **ATTACK) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "l1"}, "^norm must be one of linf, l2, got 'l1'.$"),
        ({"epsilon": -1}, "^epsilon must be a number of at least 0, got -1.$"),
        ({"step": float("nan")}, "^step must be a number of at least 0, got nan.$"),
        ({"steps": -1}, "^steps must be a whole number of at least 0, got -1.$"),
        ({"restarts": 0}, "^restarts must be a whole number of at least 1, got 0.$"),
        ({"restarts": 2, "random_start": False}, "^PGD: restarts=2 without a random start are all the same. Use"),
    ],
)
def test_settings_of_pgd_that_cannot_be(network, batch, settings, message):
    with pytest.raises(AdvfoolError, match=message):
        pgd(network, *batch, INPUT, **ATTACK | settings)
