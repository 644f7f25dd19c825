"""A batch norm scales axis 1: it is folded into the layer before it, along whichever axis of its output that is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advfool.interpreters import LRP
from advfool.interpreters.lrp import AlphaBeta, Composite, Epsilon, Flat, Gamma, ZPlus
from tests.helpers.relevance import relative

IMAGES = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(3)).double()
RULES = {
    "epsilon": Epsilon(0.01),
    "z_plus": ZPlus(1e-9),
    "alpha_beta": AlphaBeta(2, 1, 1e-9),
    "gamma": Gamma(0.25, 1e-9),
    "flat": Flat(1e-9),
}


def norm(size, kind=nn.BatchNorm1d):
    found = kind(size)
    found.running_mean.normal_()
    found.running_var.uniform_(0.5, 2)
    nn.init.normal_(found.weight)  # factors of both signs
    nn.init.normal_(found.bias)
    return found


class Tokens(nn.Module):
    """A linear layer and a batch norm of the tokens; the whole as one linear layer is `expanded`."""

    def __init__(self, apply=None):
        super().__init__()
        torch.manual_seed(1)
        self.linear, self.bn, self.out = nn.Linear(12, 5), norm(4), nn.Linear(20, 3)
        self.apply_norm = apply or (lambda s, v: s.bn(v))
        self.double().eval()

    def forward(self, x):
        return self.out(self.apply_norm(self, self.linear(x.reshape(-1, 4, 12))).relu().flatten(1))


class Expanded(nn.Module):
    """The same with one linear layer for each token, into which its factor is folded by hand."""

    def __init__(self, tokens):
        super().__init__()
        self.out, bn = tokens.out, tokens.bn
        self.layers = nn.ModuleList()
        for i in range(4):
            layer = nn.Linear(12, 5).double()
            scale = bn.weight[i] / (bn.running_var[i] + bn.eps).sqrt()
            layer.weight.data = tokens.linear.weight.data * scale
            layer.bias.data = (tokens.linear.bias.data - bn.running_mean[i]) * scale + bn.bias[i]
            self.layers.append(layer)

    def forward(self, x):
        x = x.reshape(-1, 4, 12)
        return self.out(torch.stack([layer(x[:, i]) for i, layer in enumerate(self.layers)], 1).relu().flatten(1))


def maps(network, composite, **options):
    return LRP(composite=composite, normalise="none", **options)(network, IMAGES, 1).detach()


def functional(s, v):
    return F.batch_norm(v, s.bn.running_mean, s.bn.running_var, s.bn.weight, s.bn.bias, False, 0.1, s.bn.eps)


class Subclass(nn.BatchNorm1d):
    """A batch norm of the user's own name."""


@pytest.mark.parametrize("apply", [None, functional], ids=["module", "functional"])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", RULES)
def test_a_batch_norm_of_tokens_scales_tokens(name, grad, apply):
    network, composite = Tokens(apply), Composite(linear=RULES[name])
    expanded = Expanded(network)
    torch.testing.assert_close(network(IMAGES), expanded(IMAGES))
    with torch.set_grad_enabled(grad):
        found = maps(network, composite)
    torch.testing.assert_close(found, maps(expanded, composite))
    wrong = Tokens(apply)
    wrong.apply_norm = lambda s, v: v
    assert relative(found, maps(wrong, composite)) > 1e-3


def test_a_batch_norm_after_a_reshape_is_not_folded():
    """Its axis is another one than the layer's, even where both have the same size."""

    def reshaped(s, v):
        return s.bn(v.flatten(1).unflatten(1, (4, 5)))

    network = Tokens(reshaped)
    composite = Composite(linear=Epsilon(0.01))
    torch.testing.assert_close(maps(network, composite), maps(network, composite, batchnorm="pass"))


class Whole(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers, self.out = nn.Sequential(*layers), nn.LazyLinear(3)
        self.double().eval()
        self(IMAGES)

    def forward(self, x):
        return self.out(self.layers(x).flatten(1))


BEFORE = {
    "convolution": lambda: (nn.Conv2d(3, 6, 3), nn.BatchNorm2d),
    "grouped": lambda: (nn.Conv2d(3, 6, 3, groups=3, padding="same"), nn.BatchNorm2d),
    "1d": lambda: (nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 6, 3)), nn.BatchNorm1d),
    "linear": lambda: (nn.Sequential(nn.Flatten(), nn.Linear(48, 6)), nn.BatchNorm1d),
    "transposed": lambda: (nn.ConvTranspose2d(3, 6, 3, stride=2), nn.BatchNorm2d),
    "transposed and grouped": lambda: (nn.ConvTranspose2d(3, 6, 3, groups=3), nn.BatchNorm2d),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("before", BEFORE)
def test_a_batch_norm_of_the_output_channels_is_folded(before, name):
    torch.manual_seed(1)
    layer, kind = BEFORE[before]()
    bn = norm(6, kind)
    network = Whole(layer, bn, nn.ReLU())
    last = layer[-1] if isinstance(layer, nn.Sequential) else layer
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    composite = Composite(RULES[name], RULES[name])
    found = maps(network, composite)
    with torch.no_grad():
        if "transposed" in before:
            weight = last.weight.view(last.groups, -1, *last.weight.shape[1:])
            last.weight.copy_((weight * scale.view(last.groups, 1, -1, 1, 1)).flatten(0, 1))
        else:
            last.weight.mul_(scale.view(-1, *[1] * (last.weight.dim() - 1)))
        last.bias.copy_((last.bias - bn.running_mean) * scale + bn.bias)
    network.layers[1] = nn.Identity()
    torch.testing.assert_close(found, maps(network, composite))


def test_a_subclass_is_a_batch_norm():
    torch.manual_seed(1)
    layer = nn.Linear(48, 6)
    bn = norm(6)
    own = Subclass(6)
    own.load_state_dict(bn.state_dict())
    torch.manual_seed(2)
    ours = Whole(nn.Flatten(), layer, own)
    torch.manual_seed(2)
    torch.testing.assert_close(maps(ours, "epsilon_plus"), maps(Whole(nn.Flatten(), layer, bn), "epsilon_plus"))
