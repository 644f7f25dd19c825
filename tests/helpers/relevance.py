"""Networks for LRP, oracles for its maps, and their comparison."""

from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from zennit import composites as zennit_composites

from advfool.interpreters import LRP
from advfool.interpreters.lrp import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    ZBox,
    ZPlus,
)
from tests.helpers.networks import build_tiny

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)


ZENNIT = {
    "epsilon_plus": zennit_composites.EpsilonPlus,
    "epsilon_alpha2_beta1": zennit_composites.EpsilonAlpha2Beta1,
    "epsilon_gamma_box": zennit_composites.EpsilonGammaBox,
    "epsilon_plus_flat": zennit_composites.EpsilonPlusFlat,
    "epsilon_alpha2_beta1_flat": zennit_composites.EpsilonAlpha2Beta1Flat,
}


built = lru_cache(build_tiny)


def meaningful(network, size=None):
    """Random weights that let values neither vanish nor explode; statistics of batch norm are random, too.

    With a `size` they are those of the activations of images of this size.
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
        elif name.endswith("weight"):
            nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            nn.init.normal_(parameter, std=0.1)
    norms = [module for module in network.eval().modules() if isinstance(module, BATCH_NORM)]
    for norm in norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.train(size is not None)
        norm.momentum = 1.0
    if norms and size:
        with torch.no_grad():
            network(torch.randn(8, 3, size, size, dtype=next(network.parameters()).dtype))
    return network.eval()


@lru_cache(maxsize=1)
def torchvision_network(arch, size=None):
    torch.manual_seed(0)
    # Initialising VGG's wide linear layers takes long, so they are made narrow; RegNet cannot be built without values.
    with torch.device("cpu" if arch.startswith("regnet") else "meta"):
        network = torchvision.models.get_model(arch, num_classes=10)
        if arch.startswith("vgg"):
            for place, (inside, outside) in {0: (512 * 49, 64), 3: (64, 32), 6: (32, 10)}.items():
                network.classifier[place] = nn.Linear(inside, outside)
    return meaningful(network.to_empty(device="cpu").double(), size)


def some_images(n=2, size=64):
    return torch.randn(n, 3, size, size, dtype=torch.float64)


def relative(ours, expected):
    return ((ours - expected).norm() / expected.norm()).item()


def cosine(a, b):
    return F.cosine_similarity(a.double().flatten(1), b.double().flatten(1)).min().item()


def our_lrp(composite, **options):
    return LRP(composite=composite, epsilon=1e-6, normalise="none", mean=[0.5] * 3, std=[0.25] * 3, **options)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def convolution_matrix(weight, size, stride, padding):
    """A convolution of a (c, size, size) image as a dense matrix."""
    outputs, channels, kernel, _ = weight.shape
    steps = (size + 2 * padding - kernel) // stride + 1
    matrix = np.zeros((outputs, steps, steps, channels, size, size))
    for k in range(outputs):
        for i in range(steps):
            for j in range(steps):
                for c in range(channels):
                    for a in range(kernel):
                        for b in range(kernel):
                            row, column = i * stride + a - padding, j * stride + b - padding
                            if 0 <= row < size and 0 <= column < size:
                                matrix[k, i, j, c, row, column] = weight[k, c, a, b]
    return matrix.reshape(outputs * steps * steps, -1), steps


def positive(value):
    return np.maximum(value, 0)


def negative(value):
    return np.minimum(value, 0)


def numpy_relevance(rule, x, matrix, bias, relevance):
    """The relevance of each x_j from that of each z_k = sum_j x_j w_kj + b_k, one output after the other."""
    found = np.zeros_like(x)
    for w, b, r in zip(matrix, bias, relevance, strict=True):
        c = x * w
        z = c.sum() + b
        if isinstance(rule, Epsilon):
            found += c / (z + np.copysign(rule.epsilon, z)) * r
        elif isinstance(rule, ZPlus):
            found += positive(c) / (positive(c).sum() + max(b, 0) + rule.stabiliser) * r
        elif isinstance(rule, AlphaBeta):
            found += rule.alpha * positive(c) / (positive(c).sum() + max(b, 0) + rule.stabiliser) * r
            below = negative(c).sum() + min(b, 0)
            found -= rule.beta * negative(c) / (below + np.copysign(rule.stabiliser, below)) * r
        elif isinstance(rule, Gamma):
            clamp = positive if z > 0 else negative
            weighted = c + rule.gamma * clamp(c)
            total = weighted.sum() + b + rule.gamma * clamp(b)
            found += weighted / (total + np.copysign(rule.stabiliser, total)) * r
        elif isinstance(rule, Flat):
            found += (w != 0) / ((w != 0).sum() + rule.stabiliser) * r
        elif isinstance(rule, ZBox):
            c = c - rule.low * positive(w) - rule.high * negative(w)
            found += c / (c.sum() + np.copysign(rule.stabiliser, c.sum())) * r
    return found


class Sine(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.body = nn.Conv2d(3, 5, 1), SineBody()

    def forward(self, images):
        return self.body(self.first(images)).mean(dim=(2, 3))


class SineBody(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class Method(Sine):
    def forward(self, images):
        return self.first(images).sin().mean(dim=(2, 3))


LITTLE = 1e-13
