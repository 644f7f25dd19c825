"""Guided backpropagation against captum, for every form of ReLU."""

import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import GuidedBackprop as OracleGuidedBackprop
from torch import nn

from advfool.interpreters import GuidedBackprop, SimpleGrad
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise
from tests.helpers.networks import out_of_place


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
    with pytest.warns(UserWarning, match="runs no relu, so its heatmaps are those of SimpleGrad"):
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
    with pytest.raises(AdvfoolError, match=r"guided must be .* relu, relu6, .*got .*silu"):
        GuidedBackprop(guided=("silu",))
