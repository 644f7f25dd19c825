"""SimpleGrad against captum, and its second derivatives against torch's own."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import InputXGradient, LayerGradientXActivation, Saliency
from torch import nn

from advfool.interpreters import GradCAM, GuidedBackprop, SimpleGrad
from advfool.interpreters.tracing.recording import record
from advfool.utilities.heatmaps import normalise
from tests.helpers.networks import build_tiny, out_of_place, snapshot


@pytest.mark.parametrize("arch", ["resnet18", "vgg11", "mobilenet_v2"])
def test_agrees_with_captum(arch):
    network = torchvision.models.get_model(arch, num_classes=10).eval()
    images, targets = torch.randn(2, 3, 96, 96), torch.tensor([1, 5])
    oracle = out_of_place(network)
    expected = normalise(Saliency(oracle).attribute(images, targets, abs=True).sum(1)).detach()
    torch.testing.assert_close(SimpleGrad()(network, images, targets).detach(), expected, atol=1e-5, rtol=1e-5)
    expected = normalise(InputXGradient(oracle).attribute(images.clone(), targets).sum(1)).detach()
    ours = SimpleGrad(times_input=True)(network, images, targets).detach()
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    assert ours.amin() < 0


def test_at_a_layer_agrees_with_captum():
    network = torchvision.models.resnet18(num_classes=10).eval()
    images, targets = torch.randn(2, 3, 224, 224), torch.tensor([1, 5])
    oracle = out_of_place(network)
    product = LayerGradientXActivation(oracle, oracle.layer4[1]).attribute(
        images, targets, attribute_to_layer_input=True
    )
    ours = SimpleGrad("layer4.1", times_input=True, normalise="max")(network, images, targets).detach()
    torch.testing.assert_close(ours, normalise(product.sum(1).detach()), atol=1e-5, rtol=1e-5)
    assert ours.shape == (2, 7, 7)


@pytest.mark.parametrize("interpreter", [SimpleGrad(), GuidedBackprop(), SimpleGrad(times_input=True)])
@pytest.mark.parametrize("grad", [True, False])
def test_leaves_the_model_as_it_was(tiny, interpreter, grad):
    network, _ = tiny
    next(network.parameters()).requires_grad_(False)
    images = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    before = snapshot(network)
    with torch.set_grad_enabled(grad):
        heatmaps = interpreter(network, images, 3)
    after = snapshot(network)
    assert before[0] == after[0]
    assert before[1] == after[1]
    assert all(torch.equal(before[2][name], after[2][name]) for name in before[2])
    assert before[3:] == after[3:]
    assert heatmaps.requires_grad is grad
    assert not images.requires_grad


@pytest.mark.parametrize("interpreter", [SimpleGrad(), GuidedBackprop()])
def test_an_image_does_not_depend_on_its_batch(tiny, interpreter):
    network, _ = tiny
    images, targets = torch.randn(3, 3, 56, 56, dtype=torch.float64), torch.arange(3)
    together = interpreter(network, images, targets)
    alone = torch.cat([interpreter(network, images[i : i + 1], targets[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


class Twice(nn.Module):
    """Convolutions of every kind, batch norms with and without parameters."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3, padding="same", groups=8),
            nn.BatchNorm2d(8, affine=False),
            nn.SiLU(),
            nn.Conv2d(8, 12, 3, dilation=2, groups=2, padding=1, padding_mode="reflect"),
            nn.SiLU(),
            nn.Conv2d(12, 6, 1, stride=3),
            nn.BatchNorm2d(6),
            nn.SiLU(),
        )

    def forward(self, x):
        return self.layers(x).sum(dim=(2, 3))


def test_second_derivatives_are_torchs_own():
    network = Twice().double()
    network(torch.randn(8, 3, 20, 20, dtype=torch.float64))
    network.eval()
    images = torch.randn(2, 3, 20, 20, dtype=torch.float64)
    heatmaps = SimpleGrad(times_input=True, normalise="none")(network, images, 1)
    weights = torch.randn_like(heatmaps)
    ours = torch.autograd.grad((weights * heatmaps).sum(), list(network.parameters()), allow_unused=True)

    inputs = images.clone().requires_grad_()
    gradient = torch.autograd.grad(network(inputs)[:, 1].sum(), inputs, create_graph=True)[0]
    plain = (weights * (gradient * inputs).sum(1)).sum()
    expected = torch.autograd.grad(plain, list(network.parameters()), allow_unused=True)
    for name, a, b in zip(dict(network.named_parameters()), ours, expected, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_gradients_of_parameters_can_be_differentiated_too():
    network = Twice().double().eval()
    images = torch.randn(2, 3, 20, 20, dtype=torch.float64)
    recording = record(network, images, [SimpleGrad()])
    weight = network.layers[0].weight
    ours = torch.autograd.grad(recording.logits.square().sum(), weight, create_graph=True)[0]
    again = torch.autograd.grad(ours.square().sum(), weight)[0]
    expected = torch.autograd.grad(network(images).square().sum(), weight, create_graph=True)[0]
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(again, torch.autograd.grad(expected.square().sum(), weight)[0])


def test_works_under_bf16_autocast():
    network, layer = build_tiny("resnet_tiny", torch.float32)
    images, targets = torch.randn(4, 3, 56, 56), torch.arange(4)
    for interpreter in (SimpleGrad(layer), GradCAM(layer)):
        expected = interpreter(network, images, targets).detach()
        with torch.autocast("cpu", torch.bfloat16):
            heatmaps = interpreter(network, images, targets)
        heatmaps.float().square().mean().backward()
        cosine = F.cosine_similarity(heatmaps.detach().float().flatten(1), expected.flatten(1))
        assert cosine.min() >= 0.99, interpreter
