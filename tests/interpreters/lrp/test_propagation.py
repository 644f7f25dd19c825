"""Relevance through whole networks: it is conserved, starts where it should, and stops at a layer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advfool.interpreters import LRP, GradCAM
from advfool.interpreters.lrp import (
    Composite,
    Epsilon,
    Norm,
    Sum,
)
from advfool.utilities.errors import AdvfoolError
from tests.helpers.relevance import some_images, torchvision_network


def test_relevance_of_one_instead_of_the_logit(tiny):
    network, layer = tiny
    images = some_images(3, 56)
    logits = network(images)
    targets = torch.stack([logits[0].argmax(), logits[1].argmin(), logits[2].argmin()])
    logits = logits.gather(1, targets[:, None])[:, :, None]
    assert logits.amin() < 0 < logits.amax()
    logit, one = (LRP(start=start, normalise="none")(network, images, targets) for start in ("logit", "one"))
    torch.testing.assert_close(one * logits, logit)
    one = LRP(layer, start="one", normalise="none")(network, images, targets)
    positive = logits[:, 0, 0] > 0
    logit = LRP(layer, normalise="none")(network, images, targets)
    torch.testing.assert_close((one * logits)[positive], logit[positive])
    with pytest.raises(AdvfoolError) as error:
        LRP(start="zero")
    assert str(error.value) == "start must be one of logit, one, got 'zero'."


def no_bias(*args, **kwargs):
    return nn.Conv2d(*args, bias=False, **kwargs)


class Concatenated(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.a, self.b = no_bias(inside, 4, 1), no_bias(inside, 3, 3, padding=1)

    def forward(self, x):
        return torch.cat([x, self.a(x).relu(), F.relu(self.b(x))], 1)


class Residual(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.convolution = no_bias(inside, inside, 3, padding=1)

    def forward(self, x):
        return F.relu(self.convolution(x)) + x


BLOCKS = {
    "convolution": lambda inside: nn.Sequential(no_bias(inside, 6, 3, padding=1), nn.ReLU()),
    "strided": lambda inside: nn.Sequential(no_bias(inside, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True)),
    "max pool": lambda inside: nn.MaxPool2d(3, 2, 1),
    "average pool": lambda inside: nn.AvgPool2d(3, 2, 1),
    "concatenation": Concatenated,
    "residual": Residual,
}


def random_network(seed, blocks):
    torch.manual_seed(seed)
    network = BLOCKS["convolution"](3).double()
    x = some_images(3, 13)
    for block in blocks:
        network.append(BLOCKS[block](network(x).shape[1]).double())
    network.append(nn.Flatten())
    network.append(nn.Linear(network(x).shape[1], 5, bias=False).double())
    for parameter in network.parameters():
        nn.init.kaiming_normal_(parameter)
    return network, x


@given(st.integers(0, 10**6), st.lists(st.sampled_from(list(BLOCKS)), min_size=1, max_size=5), st.booleans())
@settings(max_examples=25)
def test_relevance_is_conserved(seed, blocks, plus):
    network, images = random_network(seed, blocks)
    with torch.no_grad():
        logits = network(images)
        targets = logits.abs().argmax(1)
        logit = logits.gather(1, targets[:, None])[:, 0]
        # Without biases, what z+ finds nothing positive for is 0 after the ReLU and has no relevance.
        everywhere_epsilon = Composite(Epsilon(1e-12), Epsilon(1e-12), sum=Sum(1e-12), average=Norm(1e-12))
        lrp = LRP(
            composite="epsilon_plus" if plus else everywhere_epsilon, epsilon=1e-12, stabiliser=1e-12, normalise="none"
        )
        heatmaps = lrp(network, images, targets)
    torch.testing.assert_close(heatmaps.sum(dim=(1, 2)), logit, rtol=1e-6, atol=0)


def test_lrp_is_grad_cam_at_the_last_output():
    """Behind the last block there is only the average and a linear layer, so both are relu(sum_k w_k a_k)."""
    network, images = torchvision_network("resnet50", 96), some_images(2, 96)
    options = {"layer": "layer4.2", "normalise": "max"}
    with torch.no_grad():
        targets = network(images).argmax(1)
        for side, lowest, highest in (("output", 0, 1e-6), ("input", 0.1, 10)):
            lrp = LRP(**options, layer_side=side, epsilon=1e-9)(network, images, targets)
            cam = GradCAM(**options, layer_side=side)(network, images, targets)
            assert cam.amax(dim=(1, 2)).tolist() == [1, 1]
            assert cam.shape == (2, 3, 3)
            assert lowest <= (lrp - cam).abs().amax() <= highest, side
