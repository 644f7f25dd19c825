"""What does not depend on the images is a constant: it takes no relevance in sums and is a factor in products."""

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as transform
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2

from advfool.interpreters import LRP
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from tests.helpers.relevance import relative
from tests.helpers.small_networks import Between, Small, some_images

IMAGES = some_images()


def maps(network, images=IMAGES, **options):
    options = {"normalise": "none", "stabiliser": 1e-12} | options
    return LRP(**options)(network, images, 1).detach()


def plain(s, v):
    return v + s.plane


SUMMANDS = {
    "view": lambda s, v: v + s.scale.view(1, 4, 1, 1),
    "on the left": lambda s, v: s.scale.view(1, 4, 1, 1) + v,
    "index": lambda s, v: v + s.scale[None, :, None, None],
    "clone": lambda s, v: v + s.plane.clone(),
    "detach and expand": lambda s, v: v + s.plane.detach().expand(1, 4, 8, 8),
    "expand_as": lambda s, v: v + s.plane.expand_as(v),
    "arithmetic": lambda s, v: v + (s.plane * 3 - s.plane) / 2,
    "constant times constant": lambda s, v: v + s.plane * s.scale.view(4, 1, 1) / s.scale[:, None, None],
    "concatenation": lambda s, v: v + torch.cat([s.scale[:2], s.scale[2:]]).reshape(1, 4, 1, 1),
    "buffer": lambda s, v: v + s.numbers.view(1, -1, 1, 1),
    "converted": lambda s, v: v + s.plane.to(v.device).to(v).type_as(v),
    "selected by a mask": lambda s, v: v + torch.where(s.plane > 0, s.plane, 0.0),
    "activation of a constant": lambda s, v: v + s.plane.sin().relu().softmax(1),
    "method of the constant": lambda s, v: s.plane.add(v),
    "linear layer of a constant": lambda s, v: v + s.head(s.scale)[:4].view(1, 4, 1, 1),
    "subtracted": lambda s, v: v - s.scale.neg().view(1, 4, 1, 1),
    "negative of a difference": lambda s, v: -(-s.plane - v),
    "addcmul": lambda s, v: torch.addcmul(s.plane, v, torch.ones_like(v)),
    "arange": lambda s, v: v + torch.arange(4).view(1, 4, 1, 1) / 2,
    "linspace": lambda s, v: v + torch.linspace(-1, 1, 8),
    "arange of a size": lambda s, v: v + torch.arange(v.shape[3], device=v.device),
    "zeros of a size": lambda s, v: v + (torch.zeros((v.size(2), v.size(3))) + 1),
    "zeros_like": lambda s, v: v + torch.zeros_like(v),
    "new_full": lambda s, v: v + v.new_full((4, 1, 1), 0.3),
    "tensor": lambda s, v: v + torch.tensor([0.1, 0.2, 0.3, 0.4], device=v.device).view(4, 1, 1),
}


def constant_plane(name, images):
    """What the case adds, made a parameter."""
    network = Between(SUMMANDS[name])
    zero = torch.zeros(2, 4, 8, 8, dtype=torch.float64)
    return nn.Parameter(SUMMANDS[name](network, zero).detach()[:1])


@pytest.mark.parametrize("name", SUMMANDS)
def test_a_constant_summand_takes_no_relevance_however_it_was_made(name):
    network, expected, images = Between(SUMMANDS[name]), Between(plain), IMAGES
    expected.plane = constant_plane(name, images)
    torch.testing.assert_close(record(network, images, [LRP()]).logits, network(images))
    torch.testing.assert_close(network(images), expected(images))
    torch.testing.assert_close(maps(network), maps(expected))


FACTORS = {
    "view": lambda s, v: v * s.scale.view(1, 4, 1, 1),
    "on the left": lambda s, v: s.scale.view(1, 4, 1, 1) * v,
    "quotient": lambda s, v: v / s.scale.reciprocal()[:, None, None],
    "method": lambda s, v: v.mul(s.scale[:, None, None]),
    "method of the constant": lambda s, v: s.scale[:, None, None].multiply(v),
    "in place": lambda s, v: v.clone().mul_(s.scale[:, None, None]),
    "sigmoid of a constant": lambda s, v: v * torch.sigmoid(s.scale)[:, None, None],
    "mask": lambda s, v: v * (torch.arange(4) % 2)[:, None, None],
    "mask of a comparison": lambda s, v: v * (v > 0),
    "mask of a comparison, converted": lambda s, v: v * v.gt(0).to(v.dtype),
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_constant_factor_passes_relevance(name):
    network, images = Between(FACTORS[name]), IMAGES
    torch.testing.assert_close(record(network, images, [LRP()]).logits, network(images))
    ours = maps(network)
    assert ours.std() > 0
    torch.testing.assert_close(ours, maps(Named(FACTORS[name]), rules={Operation: "pass"}))


class Operation(nn.Module):
    """An operation as a module, which is given a rule as a whole."""

    def __init__(self, operation, outer):
        super().__init__()
        self.operation, self.outer = operation, [outer]

    def forward(self, x):
        return self.operation(self.outer[0], x)


class Named(Between):
    """A network between whose convolutions there is such a module."""

    def __init__(self, operation):
        super().__init__(lambda s, v: s.middle(v))
        self.middle = Operation(operation, self)


def test_a_constant_that_makes_the_value_larger_gathers_its_relevance():
    def over_positions(s, v):
        return v.mean((2, 3), keepdim=True) * torch.ones(8, 8) + s.plane

    ours = maps(Between(over_positions))
    expected = maps(Between(lambda s, v: v.mean((2, 3), keepdim=True).expand(2, 4, 8, 8) + s.plane))
    torch.testing.assert_close(ours, expected)


NORMALISING = {
    "buffers": lambda s, x: (x - s.mean.view(1, 3, 1, 1)) / s.std[None, :, None, None],
    "methods": lambda s, x: x.sub(s.mean[None, :, None, None]).div(s.std[None, :, None, None]),
    "in place": lambda s, x: x.clone().sub_(s.mean.view(3, 1, 1)).div_(s.std.view(3, 1, 1)),
    "factor and shift": lambda s, x: x * (1 / s.std).view(3, 1, 1) - (s.mean / s.std).view(3, 1, 1),
    "made inside": lambda s, x: (
        (x - torch.tensor([0.4, 0.5, 0.6], device=x.device).view(3, 1, 1))
        / torch.tensor([0.2, 0.3, 0.4]).to(x).view(3, 1, 1)
    ),
    "by channel": lambda s, x: torch.stack(
        [(x[:, i] - m) / d for i, (m, d) in enumerate(((0.4, 0.2), (0.5, 0.3), (0.6, 0.4)))], 1
    ),
    "flattened": lambda s, x: ((x.view(2, 3, -1) - s.mean[None, :, None]) / s.std[None, :, None]).view(x.shape),
    "torchvision": lambda s, x: transforms.Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])(x),
    "torchvision's function": lambda s, x: transform.normalize(x, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]),
}


class Normalised(nn.Module):
    """A network behind a normalisation of its own."""

    def __init__(self, normalise):
        super().__init__()
        self.normalise, self.network = normalise, Small()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6], dtype=torch.float64))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64))

    def forward(self, x):
        return self.network(self.normalise(self, x))


COMPOSITES = ("epsilon_plus", "epsilon_gamma_box", "epsilon_alpha2_beta1_flat")


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("name", [name for name in NORMALISING if "torchvision" not in name or "function" in name])
def test_a_normalisation_in_forward_hands_relevance_to_the_image(name, composite):
    network, images, options = Normalised(NORMALISING[name]), IMAGES, {"mean": [0.5] * 3, "std": [0.3] * 3}
    inside = network.normalise(network, images)
    torch.testing.assert_close(record(network, images, [LRP()]).logits, network(images))
    expected = maps(network.network, inside, composite=composite, **options)
    torch.testing.assert_close(maps(network, images, composite=composite, **options), expected)


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("kind", [transforms.Normalize, v2.Normalize])
def test_a_normalising_transform_in_a_sequential(kind, composite):
    images, options = some_images(), {"mean": [0.5] * 3, "std": [0.3] * 3, "composite": composite}
    normalise = kind([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    network = nn.Sequential(normalise, Small())
    torch.testing.assert_close(record(network, images, [LRP()]).logits, network(images))
    torch.testing.assert_close(maps(network, images, **options), maps(Small(), normalise(images), **options))


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda s, v: s.plane / v, "of a constant by a value"),
        (lambda s, v: 1 / v, "of a constant by a value"),
        (lambda s, v: v / v.mean(), "of a value by another one"),
        (lambda s, v: v * v.mean(), "of two values of which neither"),
        (lambda s, v: torch.addcmul(s.plane, v, v), "of several values"),
        (
            lambda s, v: F.conv2d(v, v[:, :, :3, :3].repeat(2, 1, 1, 1), padding=1),
            "whose weights or parameters depend on the images",
        ),
        (lambda s, v: v @ v, "of several values"),
        (lambda s, v: torch.lerp(v, -v, v), "whose weights depend on the images"),
    ],
)
def test_products_and_quotients_without_a_rule_say_why(between, reason):
    with pytest.raises(AdvfoolError, match=f"LRP has no rule for .*{reason}.*Give it one"):
        maps(Between(between))


def test_sizes_are_no_values():
    network = Between(lambda s, v: v * v.shape[1] / v.size(2) + v.dim() - v.numel())
    torch.testing.assert_close(maps(network), maps(Between(lambda s, v: v * 4 / 8 + 4 - 512)))
    assert relative(maps(network), maps(Small())) > 1e-3
