"""Integrated gradients against captum, and that they are complete."""

import pytest
import torch
import torchvision
from captum.attr import IntegratedGradients as OracleIG
from captum.attr import LayerIntegratedGradients as OracleLayerIG

from advfool.interpreters import IntegratedGradients
from advfool.utilities.heatmaps import normalise
from tests.helpers.gradients import close, gradients
from tests.helpers.networks import build_tiny


@pytest.mark.parametrize("arch", ["vgg11", "resnet18"])
def test_integrated_gradients_agree_with_captum(arch):
    network = torchvision.models.get_model(arch, num_classes=10).eval()
    images, targets = torch.randn(2, 3, 96, 96), torch.tensor([1, 5])
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    expected = OracleIG(network).attribute(
        images, torch.full_like(images, 0.3), targets, n_steps=8, method="riemann_middle"
    )
    with torch.no_grad():
        ours = IntegratedGradients(steps=8, baseline=0.3)(network, images, targets)
    torch.testing.assert_close(ours, normalise(expected.sum(1)).float(), atol=1e-5, rtol=1e-5)


def test_at_a_layer_they_agree_with_captum():
    network, layer = build_tiny("resnet_tiny")
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    images, targets = torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 5])
    expected = OracleLayerIG(network, network.get_submodule(layer)).attribute(
        images,
        torch.zeros_like(images),
        targets,
        n_steps=6,
        method="riemann_middle",
        attribute_to_layer_input=True,
    )
    ours = IntegratedGradients(layer, steps=6, normalise="none")(network, images, targets).detach()
    torch.testing.assert_close(ours, expected.sum(1).detach())


@pytest.mark.parametrize("at_layer", [False, True])
def test_integrated_gradients_are_complete(tiny, at_layer):
    network, layer = tiny
    images, targets = torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 5])
    interpreter = IntegratedGradients(layer if at_layer else None, steps=400, chunk=50, normalise="none")
    with torch.no_grad():
        total = interpreter(network, images, targets).sum(dim=(1, 2))
        rise = network(images) - network(torch.zeros_like(images))
    torch.testing.assert_close(total, rise[torch.arange(2), targets], atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("at_layer", [False, True])
def test_a_bounded_path_gives_the_same_map_and_gradient(tiny, at_layer):
    network, layer = tiny
    images = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    together, bounded = (
        IntegratedGradients(layer if at_layer else None, steps=5, chunk=chunk, baseline=(0.1, 0.2, 0.3))
        for chunk in (5, 2)
    )
    maps = [interpreter(network, images, 3) for interpreter in (together, bounded)]
    torch.testing.assert_close(*maps)
    close(gradients(network, maps[1]), gradients(network, maps[0]))
