"""Softplus explains the network that has softplus in place of its ReLUs, and leaves the network as it is."""

import copy

import pytest
import torch
from torch import nn

from advfool.interpreters import LRP, GradCAM, SimpleGrad, Softplus
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from tests.helpers.networks import build_tiny

IMAGES, TARGETS = torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 5])


def smoothed(network, beta):
    """The same network with modules in place of its ReLUs."""
    other = copy.deepcopy(network)
    for module in list(other.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus(beta))
    return other


class Calls(nn.Module):
    """A network that calls ReLUs in several ways, which have no modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, dtype=torch.float64), nn.Linear(4, 10, dtype=torch.float64)

    def forward(self, images):
        maps = torch.relu(self.first(images)).relu()
        return self.second(nn.functional.relu(maps.mean(dim=(2, 3)), inplace=True))


@pytest.mark.parametrize("inner", [SimpleGrad, GradCAM])
@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_the_maps_are_those_of_the_network_with_softplus_modules(inner, beta):
    network, layer = build_tiny("vgg_tiny")
    found = Softplus(inner(layer), beta)(network, IMAGES, TARGETS)
    torch.testing.assert_close(found, inner(layer)(smoothed(network, beta), IMAGES, TARGETS))
    assert not torch.allclose(found, inner(layer)(network, IMAGES, TARGETS))


def test_relus_that_are_called_are_smoothed_too():
    network, beta = Calls(), 3.0
    images = IMAGES.clone().requires_grad_()
    smooth = nn.Softplus(beta)
    score = network.second(smooth(smooth(smooth(network.first(images))).mean(dim=(2, 3))))
    expected = torch.autograd.grad(score[range(2), TARGETS].sum(), images)[0].abs().sum(dim=1)
    found = Softplus(SimpleGrad(normalise="none"), beta, normalise="none")(network, IMAGES, TARGETS)
    torch.testing.assert_close(found.detach(), expected)


def test_predictions_are_those_of_the_unchanged_network():
    network, layer = build_tiny("resnet_tiny")
    interpreter, before = Softplus(SimpleGrad(layer)), network(IMAGES)
    recording = record(network, IMAGES, [interpreter])
    interpreter.read(recording, TARGETS)
    torch.testing.assert_close(recording.logits, before)
    torch.testing.assert_close(network(IMAGES), before)


def test_an_interpreter_with_rules_for_relus_is_refused():
    with pytest.raises(AdvfoolError, match="gradients, got LRP"):
        Softplus(LRP())
    with pytest.raises(AdvfoolError, match="beta"):
        Softplus(beta=0.0)
