import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import GuidedBackprop as OracleGuidedBackprop
from captum.attr import InputXGradient, LayerGradientXActivation, Saliency
from conftest import build_tiny
from test_gradcam import snapshot
from torch import nn

from advfool.interpreters import GradCAM, GuidedBackprop, SimpleGrad
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise


def out_of_place(network):
    network = copy.deepcopy(network)
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return network


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


@pytest.mark.parametrize("arch", ["vgg11", "resnet18"])
def test_guided_backprop_agrees_with_captum(arch):
    network = torchvision.models.get_model(arch, num_classes=10).eval()
    images, targets = torch.randn(2, 3, 96, 96), torch.tensor([1, 5])
    expected = OracleGuidedBackprop(out_of_place(network)).attribute(images.clone(), targets).abs().sum(1)
    ours = GuidedBackprop()(network, images, targets).detach()
    torch.testing.assert_close(ours, normalise(expected.detach()), atol=1e-5, rtol=1e-5)


class Forms(nn.Module):
    """The same two ReLUs in one of their forms."""

    def __init__(self, relu):
        super().__init__()
        self.first, self.second, self.relu = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), relu

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x)))).sum(dim=(2, 3))


@pytest.mark.parametrize(
    "relu",
    [
        nn.ReLU(inplace=True),
        F.relu,
        torch.relu,
        torch.relu_,
        lambda x: x.relu(),
        lambda x: x.relu_(),
        lambda x: F.relu(x, True),
        lambda x: F.relu(input=x, inplace=True),
        lambda x: (x.relu_(), x)[1],
    ],
)
@pytest.mark.parametrize("grad", [True, False])
def test_every_form_of_relu_is_guided(relu, grad):
    torch.manual_seed(0)
    expected_network = Forms(nn.ReLU()).double()
    network = Forms(relu).double()
    network.load_state_dict(expected_network.state_dict())
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    expected = OracleGuidedBackprop(expected_network).attribute(images.clone(), 1).abs().sum(1).detach()
    with torch.set_grad_enabled(grad), warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = GuidedBackprop(normalise="none")(network, images, 1)
    torch.testing.assert_close(ours.detach(), expected)
    assert ours.requires_grad is grad


def test_relu6_is_guided_on_request_and_its_absence_is_told():
    network = Forms(nn.ReLU6()).double()
    images = 9 * torch.randn(2, 3, 9, 9, dtype=torch.float64)
    with pytest.warns(UserWarning, match="runs no relu, so its maps are SimpleGrad's"):
        plain = GuidedBackprop()(network, images, 1)
    torch.testing.assert_close(plain, SimpleGrad()(network, images, 1))
    guided = GuidedBackprop(guided=("relu", "relu6"), normalise="none")(network, images, 1).detach()

    inner = network.first(images).requires_grad_()
    outer = network.second(inner.clamp(0, 6))
    gradient = ((outer > 0) & (outer < 6)).double()
    gradient[:, [0, 2, 3]] = 0
    back = torch.autograd.grad(outer, inner, gradient)[0].relu()
    expected = torch.nn.grad.conv2d_input(images.shape, network.first.weight, back)
    torch.testing.assert_close(guided, expected.abs().sum(1).detach())
    with pytest.raises(AdvfoolError, match="guided: expected relu, relu6, got silu"):
        GuidedBackprop(guided=("silu",))


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
