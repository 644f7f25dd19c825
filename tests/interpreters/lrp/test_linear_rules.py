"""Rules of linear layers against their formulas, written out, and that they conserve relevance."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advfool.interpreters import LRP
from advfool.interpreters.lrp import (
    AlphaBeta,
    Composite,
    Epsilon,
    Flat,
    Gamma,
    Norm,
    ZBox,
    ZPlus,
)
from advfool.interpreters.lrp.convolutions import convolution_map
from advfool.interpreters.lrp.layers import Layer
from advfool.interpreters.lrp.linear import linear_map
from tests.helpers.relevance import LITTLE, convolution_matrix, numpy_relevance, positive, some_images


def two_convolutions():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 5),
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network.double()


def written_out(network, image, target, rules):
    """The relevance of the image and of the second convolution's input."""
    (first, _, second, _, _, last) = network
    weights = {module: module.weight.detach().numpy() for module in (first, second, last)}
    biases = {module: module.bias.detach().numpy() for module in (first, second, last)}
    w1, steps = convolution_matrix(weights[first], image.shape[-1], 1, 1)
    b1 = np.repeat(biases[first], steps**2)
    w2, steps = convolution_matrix(weights[second], steps, 2, 0)
    b2 = np.repeat(biases[second], steps**2)
    x = image.numpy().reshape(-1)
    a1 = positive(w1 @ x + b1)
    a2 = positive(w2 @ a1 + b2)
    logits = weights[last] @ a2 + biases[last]
    relevance = np.where(np.arange(5) == target, logits, 0)
    relevance = numpy_relevance(rules[2], a2, weights[last], biases[last], relevance)
    at_layer = numpy_relevance(rules[1], a1, w2, b2, relevance)
    at_image = numpy_relevance(rules[0], x, w1, b1, at_layer)
    return at_image.reshape(image.shape).sum(0), at_layer.reshape(4, *image.shape[1:]).sum(0)


COMPOSITES = {
    "epsilon": (Composite(Epsilon(0.02), Epsilon(0.05)), (Epsilon(0.02), Epsilon(0.02), Epsilon(0.05))),
    "z_plus": (Composite(ZPlus(1e-3), Epsilon(0.05)), (ZPlus(1e-3), ZPlus(1e-3), Epsilon(0.05))),
    "alpha3_beta2": (Composite(AlphaBeta(3, 2, 1e-3), Epsilon(0.05)), (*[AlphaBeta(3, 2, 1e-3)] * 2, Epsilon(0.05))),
    "gamma": (Composite(Gamma(0.3, 1e-3), Epsilon(0.05)), (Gamma(0.3, 1e-3), Gamma(0.3, 1e-3), Epsilon(0.05))),
    "flat": (Composite(ZPlus(1e-3), Epsilon(0.05), Flat(1e-3)), (Flat(1e-3), ZPlus(1e-3), Epsilon(0.05))),
    "box": (Composite(ZPlus(), ZPlus(1e-3), ZBox(-3.0, 4.0, 1e-3)), (ZBox(-3.0, 4.0, 1e-3), ZPlus(), ZPlus(1e-3))),
}


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("grad", [True, False])
def test_agrees_with_the_formulas(name, grad):
    composite, rules = COMPOSITES[name]
    network, images, targets = two_convolutions(), some_images(3, 5), torch.tensor([0, 4, 2])
    oracle = [written_out(network, image, int(t), rules) for image, t in zip(images, targets, strict=True)]
    at_image, at_layer = (torch.from_numpy(np.stack(maps)) for maps in zip(*oracle, strict=True))
    with torch.set_grad_enabled(grad):
        ours = LRP(composite=composite, normalise="none")(network, images, targets)
        inside = LRP("2", composite=composite, normalise="none")(network, images, targets)
    torch.testing.assert_close(ours.detach(), at_image, rtol=1e-10, atol=1e-10 * at_image.abs().amax().item())
    assert (at_layer < 0).any()
    torch.testing.assert_close(inside.detach(), at_layer.relu(), rtol=1e-10, atol=1e-10 * at_layer.amax().item())


@dataclass
class Drawn:
    """A random linear layer or convolution without bias, with its output's relevance."""

    layer: Layer
    relevance: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor


@st.composite
def drawn_layers(draw):
    torch.manual_seed(draw(st.integers(0, 10**6)))
    nonnegative = draw(st.booleans())
    if draw(st.booleans()):
        x, linear = torch.randn(3, 7).double(), linear_map(torch.randn(5, 7).double())
    else:
        groups, kernel = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3))
        padding = draw(st.integers(0, kernel - 1))
        x = torch.randn(2, 4, 9, 8).double()
        linear = convolution_map(
            torch.randn(6, 4 // groups, kernel, kernel).double(),
            stride=draw(st.integers(1, 3)),
            padding="same" if draw(st.booleans()) else padding,
            dilation=draw(st.integers(1, 2)),
            groups=groups,
        )
    x = x.abs() if nonnegative else x
    w = linear.weight
    parts = {
        (i, j): linear.apply(x.clamp(**i_), w.clamp(**j_), None)
        for i, i_ in (("+", {"min": 0}), ("-", {"max": 0}))
        for j, j_ in (("+", {"min": 0}), ("-", {"max": 0}))
    }
    output = linear.apply(x, w, None)
    layer = Layer([x], output, lambda y: linear.apply(y, w, None), linear, nonnegative)
    return Drawn(layer, torch.randn_like(output), parts["+", "+"] + parts["-", "-"], parts["+", "-"] + parts["-", "+"])


EVERYWHERE = torch.ones_like


RULES = {  # with where they have something to share in proportion to
    Epsilon(LITTLE): lambda drawn: drawn.layer.output.abs() > 1e-4,
    ZPlus(LITTLE): lambda drawn: drawn.positive > 1e-4,
    AlphaBeta(2, 1, LITTLE): lambda drawn: (drawn.positive > 1e-4) & (drawn.negative < -1e-4),
    AlphaBeta(1, 0, LITTLE): lambda drawn: drawn.positive > 1e-4,
    Gamma(0.25, LITTLE): lambda drawn: drawn.layer.output.abs() > 1e-4,
    ZBox(-6.0, 6.0, LITTLE): lambda drawn: EVERYWHERE(drawn.relevance),
    Flat(LITTLE): lambda drawn: EVERYWHERE(drawn.relevance),
    Norm(LITTLE): lambda drawn: drawn.layer.output.abs() > 1e-4,
}


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("grad", [True, False])
@given(drawn=drawn_layers())
@settings(max_examples=20)
def test_rules_of_linear_layers_conserve(rule, grad, drawn):
    relevance = drawn.relevance * RULES[rule](drawn)
    with torch.set_grad_enabled(grad):
        (share,) = rule(drawn.layer, relevance)
    assert share.shape == drawn.layer.inputs[0].shape
    error = (share.flatten(1).sum(1) - relevance.flatten(1).sum(1)).abs().max()
    assert error <= 1e-9 * max(share.abs().sum().item(), 1)
