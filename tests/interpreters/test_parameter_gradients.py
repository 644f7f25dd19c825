"""Every interpreter can be trained through: its parameter gradients agree with finite differences in float64."""

import pytest
import torch
import torchvision
from torch import nn

from advfool.foolings import Location
from tests.helpers.derivatives import worst_disagreement
from tests.helpers.interpreters import INTERPRETERS
from tests.helpers.networks import TINY, build_tiny

LARGE = {
    "resnet18": "layer4.1",
    "densenet121": "features.denseblock4.denselayer16",
    "mobilenet_v2": "features.18.0",
}


def average(interpreter, network, images):
    """A loss of order 1 on the map of the predicted class that sees every pixel differently."""
    interpreter = interpreter.unnormalised()
    with torch.no_grad():
        targets = network(images).argmax(dim=1)
        start = interpreter(network, images, targets)
    weights = torch.linspace(0.5, 1.5, start[0].numel(), dtype=start.dtype).reshape(start.shape[1:])
    scale = (weights * start).mean().abs()
    return lambda: (weights * interpreter(network, images, targets)).mean() / scale


@pytest.mark.parametrize("name", INTERPRETERS)
@pytest.mark.parametrize("network_name", TINY)
def test_tiny_networks(network_name, name):
    network, layer = build_tiny(network_name)
    torch.manual_seed(1)
    images = torch.randn(1, 3, 40, 40, dtype=torch.float64)
    loss = average(INTERPRETERS[name](layer), network, images)
    ratio, worst, above = worst_disagreement(network, loss)
    assert ratio <= 1e-5, worst
    assert above >= 0.8


@pytest.mark.parametrize("name", ["lrp", "lrp_t", "simplegrad", "smoothgrad", "ig"])
def test_through_normalisation_and_penalty(name):
    network, layer = build_tiny("resnet_tiny")
    images, targets = torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([0, 4])
    interpreter = INTERPRETERS[name](layer)
    ratio, worst, above = worst_disagreement(
        network, lambda: Location().penalty(interpreter(network, images, targets)).mean()
    )
    assert ratio <= 1e-5, worst
    assert above >= 0.8


def large(network_name):
    """A torchvision network all of whose tensors matter to the logits about equally."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(network_name, num_classes=10).double()
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # what follows normalises, so the scale is free: as sensitive as the others
            module.weight.data *= 20 / module.weight.norm()
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.1)
    with torch.no_grad():
        for _ in range(4):
            network(torch.randn(8, 3, 64, 64, dtype=torch.float64))
    return network.eval()


def check_large(network_name, name, sample):
    network = large(network_name)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    loss = average(INTERPRETERS[name](LARGE[network_name]), network, images)
    ratio, worst, above = worst_disagreement(network, loss, sample)
    assert ratio <= 1e-5, worst
    assert above >= 0.8


@pytest.mark.parametrize("name", ["gradcam", "lrp", "lrp_t", "simplegrad"])
@pytest.mark.parametrize("network_name", LARGE)
def test_some_tensors_of_large_networks(network_name, name):
    check_large(network_name, name, sample=8)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:guided_backprop")
@pytest.mark.parametrize("name", INTERPRETERS)
@pytest.mark.parametrize("network_name", LARGE)
def test_all_tensors_of_large_networks(network_name, name):
    check_large(network_name, name, sample=None)
