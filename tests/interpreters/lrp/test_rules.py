"""Rules of everything that is no linear layer."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advfool.interpreters import LRP
from advfool.interpreters.lrp import (
    Epsilon,
    Norm,
    Pass,
    Route,
    Split,
    Sum,
    ZPlus,
)
from advfool.interpreters.lrp.layers import Layer
from tests.helpers.relevance import LITTLE, convolution_matrix, meaningful, numpy_relevance, relative, some_images


def test_a_batch_norm_that_passes():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)
    )
    network = meaningful(network.double(), 5)
    image = some_images(1, 5)
    x, weight = image.numpy().reshape(-1), convolution_matrix(network[0].weight.detach().numpy(), 5, 1, 0)[0]
    activation = network[:4](image).detach().numpy()[0]
    logits = network(image).detach().numpy()[0]
    linear = network[4].weight.detach().numpy()
    relevance = numpy_relevance(
        Epsilon(0.01), activation, linear[3:4], network[4].bias.detach().numpy()[3:4], logits[3:4]
    )
    expected = numpy_relevance(ZPlus(1e-6), x, weight, np.zeros(36), relevance).reshape(3, 5, 5).sum(0)
    passed = LRP(batchnorm="pass", normalise="none")(network, image, 3).detach()
    torch.testing.assert_close(passed[0], torch.from_numpy(expected), rtol=1e-10, atol=1e-12)
    assert relative(LRP(normalise="none")(network, image, 3).detach(), passed) > 1e-3


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.booleans())
@settings(max_examples=20)
def test_rules_of_everything_else_conserve(seed, kernel, stride, grad):
    torch.manual_seed(seed)
    x, y = torch.randn(2, 3, 7, 6).double(), torch.randn(2, 5, 7, 6).double()

    def max_pool(value):
        return F.max_pool2d(value, kernel, stride, kernel // 2)

    def average_pool(value):
        return F.avg_pool2d(value, kernel, stride, kernel // 2)

    with torch.set_grad_enabled(grad):
        relevance = torch.randn_like(max_pool(x))
        cases = [
            (Route()(Layer([x], None, max_pool), relevance), relevance),
            (Norm(LITTLE)(Layer([x.abs()], None, average_pool), relevance), relevance),
        ]
        whole = torch.randn(2, 8, 7, 6).double()
        cases.append((Split(1)(Layer([x, y]), whole), whole))
        padded = F.pad(whole, (1, 0, 2, 1))
        cases.append((Route()(Layer([whole], None, lambda t: F.pad(t, (1, 0, 2, 1))), padded), padded))
        a, b, relevance = x.abs(), torch.rand_like(x), torch.randn_like(x)
        cases.append((Sum(LITTLE)(Layer([a, b], a + b, torch.add), relevance), relevance))
        one = torch.rand(3, 1, 1).double()  # broadcast
        cases.append((Sum(LITTLE)(Layer([a, one], a + one, torch.add), relevance), relevance))
        cases.append((Pass()(Layer(), relevance), relevance))
    for shares, arrived in cases:
        total = sum(share.sum() for share in shares)
        torch.testing.assert_close(total, arrived.sum(), rtol=1e-9, atol=1e-9)
    assert [share.shape for share in cases[2][0]] == [x.shape, y.shape]
    torch.testing.assert_close(torch.cat(cases[2][0], 1), whole, rtol=0, atol=0)


def test_max_pooling_gives_to_the_winner():
    x = torch.tensor([[[[1.0, 5.0, 2.0, 4.0]]]])
    (share,) = Route()(Layer([x], None, lambda t: F.max_pool2d(t, (1, 2), (1, 1))), torch.tensor([[[[1.0, 2.0, 4.0]]]]))
    assert share.tolist() == [[[[0.0, 3.0, 0.0, 4.0]]]]
