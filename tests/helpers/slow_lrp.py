"""LRP written from the definitions of its rules, slowly: every layer as a matrix, one image at a time.

A network is a tree of `Block`s. Each knows to which definition it belongs, and nothing of torch.fx or advfool's walk.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.relevance import numpy_relevance


class Block(nn.Module):
    """An operation and its definition: `weighted`, `proportional`, `routed` or `passed`."""

    def __init__(self, definition, operation, convolves=True):
        super().__init__()
        self.definition, self.convolves = definition, convolves
        if isinstance(operation, nn.Module):
            self.operation = operation
        else:
            self.function = operation
        self.constants = nn.Parameter(torch.randn(2048))
        self.register_buffer("numbers", torch.rand(2048) + 0.5)

    def forward(self, x):
        return self.operation(x) if hasattr(self, "operation") else self.function(self, x)


class Chain(nn.Sequential):
    """Blocks one after the other."""


class Residual(nn.Module):
    """A block beside its input, in one of several ways."""

    WAYS = ("sum", "concatenation", "gate", "difference")

    def __init__(self, inner, way):
        super().__init__()
        self.inner, self.way = inner, way

    def forward(self, x):
        if self.way == "sum":
            return x + self.inner(x)
        if self.way == "difference":
            return x - self.inner(x)
        if self.way == "concatenation":
            return torch.cat([x, self.inner(x)], 1)
        return torch.sigmoid(self.inner(x)) * x


class SlowLRP:
    """The definitions of a composite.

    Args:
        convolution: the rule of convolutions.
        linear: that of linear layers.
        first: that of the first of them, or None.
        stabiliser: of sums and averages.
    """

    def __init__(self, convolution, linear, first, stabiliser):
        self.convolution, self.linear, self.first, self.stabiliser = convolution, linear, first, stabiliser

    def __call__(self, network, image, target):
        """The relevance of one image, with a batch dimension of one."""
        with torch.no_grad():
            logits = network(image)
        start = torch.where(torch.arange(logits.shape[1]) == target, logits, 0.0)
        return self.back(network, image, start, True)

    def back(self, block, x, relevance, first):
        """The relevance of a block's input; `first` tells whether no weights come before it."""
        if isinstance(block, Chain):
            return self._chain(block, x, relevance, first)
        if isinstance(block, Residual):
            return self._residual(block, x, relevance, first)
        return getattr(self, f"_{block.definition}")(block, x, relevance, first)

    def _chain(self, chain, x, relevance, first):
        inputs = []
        for block in chain:
            inputs.append((block, x, first))
            with torch.no_grad():
                x = block(x)
            first = first and not has_weights(block)
        for block, x, first in reversed(inputs):
            relevance = self.back(block, x, relevance, first)
        return relevance

    def _residual(self, block, x, relevance, first):
        with torch.no_grad():
            inner = block.inner(x)
        if block.way == "gate":
            return relevance
        if block.way == "concatenation":
            own, others = relevance[:, : x.shape[1]], relevance[:, x.shape[1] :]
        else:
            inner_part = inner if block.way == "sum" else -inner
            z = x + inner_part
            ratio = relevance / (z + torch.copysign(torch.tensor(self.stabiliser), z))
            own, others = x * ratio, inner_part * ratio
        return own + self.back(block.inner, x, others, first)

    def _weighted(self, block, x, relevance, first):
        matrix, bias = as_matrix(block, x)
        rule = self.convolution if block.convolves else self.linear
        if first and self.first is not None:
            rule = self.first
        found = numpy_relevance(rule, x.numpy().ravel(), matrix, bias, relevance.numpy().ravel())
        return torch.from_numpy(found).view_as(x)

    def _proportional(self, block, x, relevance, first):
        matrix, bias = as_matrix(block, x)
        assert np.abs(bias).max() == 0
        c = matrix * x.numpy().ravel()
        z = c.sum(1)
        ratio = relevance.numpy().ravel() / (z + np.copysign(self.stabiliser, z))
        return torch.from_numpy(ratio @ c).view_as(x)

    def _routed(self, block, x, relevance, first):
        jacobian = torch.autograd.functional.jacobian(block, x).detach()
        return (relevance.flatten() @ jacobian.reshape(relevance.numel(), x.numel())).view_as(x)

    def _passed(self, block, x, relevance, first):
        return relevance.reshape(x.shape)


def has_weights(block):
    return any(isinstance(b, Block) and b.definition == "weighted" for b in block.modules())


def as_matrix(block, x):
    """An affine block as a matrix and a bias."""
    with torch.no_grad():
        bias = block(torch.zeros_like(x)).flatten()
        units = torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape[1:])
        columns = torch.stack([block(unit[None]).flatten() - bias for unit in units], 1)
    return columns.numpy(), bias.numpy()


def normed(layer, channels):
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(layer, norm)


def plane(block, x):
    """A constant of the block, one number for each channel, that went through views and arithmetic."""
    return (block.constants[: x.shape[1]] * 2 - block.numbers[: x.shape[1]]).view(1, -1, 1, 1)


WEIGHTED = {
    "convolution": lambda c, h, w: nn.Conv2d(c, 4, 3, padding=1),
    "strided": lambda c, h, w: nn.Conv2d(c, 3, 2, stride=2, bias=False),
    "same": lambda c, h, w: nn.Conv2d(c, 4, (2, 3), padding="same", dilation=2),
    "grouped": lambda c, h, w: nn.Conv2d(c, 2 * c, 3, padding=1, groups=c),
    "with batch norm": lambda c, h, w: normed(nn.Conv2d(c, 4, 3, padding=1, bias=False), 4),
    "transposed": lambda c, h, w: nn.ConvTranspose2d(c, 3, 2),
    "transposed, strided": lambda c, h, w: nn.ConvTranspose2d(c, 2, 3, stride=2, padding=2, output_padding=1),
    "transposed with batch norm": lambda c, h, w: normed(nn.ConvTranspose2d(c, 2 * c, 2, groups=c), 2 * c),
    "functional": lambda c, h, w: lambda s, x: F.conv2d(x, s.constants[: 2 * x.shape[1]].view(2, -1, 1, 1), s.constants[:2]),
}  # fmt: skip
LINEAR = {
    "of rows": lambda c, h, w: nn.Linear(w, 4),
    "of rows with batch norm": lambda c, h, w: normed(nn.Linear(w, 4), c),
    "product": lambda c, h, w: lambda s, x: x @ s.constants[: 3 * x.shape[3]].view(-1, 3),
    "einsum": lambda c, h, w: lambda s, x: torch.einsum("nchw,dc->ndhw", x, s.constants[: 3 * x.shape[1]].view(3, -1)),
}  # fmt: skip
PROPORTIONAL = {
    "average": lambda c, h, w: nn.AvgPool2d(2, 1),
    "divisor": lambda c, h, w: lambda s, x: F.avg_pool2d(x, 2, 1, divisor_override=3),
    "bilinear": lambda c, h, w: nn.Upsample((h + 1, w), mode="bilinear"),
    "area": lambda c, h, w: lambda s, x: F.interpolate(x, (2, 2), mode="area"),
    "mean": lambda c, h, w: lambda s, x: x.mean(3, keepdim=True),
    "sum": lambda c, h, w: lambda s, x: torch.sum(x, (2,), keepdim=True),
}
ROUTED = {
    "maximum": lambda c, h, w: nn.MaxPool2d(2, 1),
    "adaptive maximum": lambda c, h, w: nn.AdaptiveMaxPool2d((2, 2)),
    "amax": lambda c, h, w: lambda s, x: x.amax(2, keepdim=True),
    "values": lambda c, h, w: lambda s, x: x.max(3, keepdim=True).values,
    "turned": lambda c, h, w: lambda s, x: x.mT.flip(1),
    "rolled": lambda c, h, w: lambda s, x: torch.roll(x, 1, 2).rot90(1, (2, 3)),
    "padded": lambda c, h, w: nn.ConstantPad2d((1, 0, 0, 1), 0.5),
    "zero padded": lambda c, h, w: nn.ZeroPad2d((0, 1, 1, 0)),
    "reflected": lambda c, h, w: lambda s, x: F.pad(x, (0, 1, 0, 0), mode="replicate"),
    "enlarged": lambda c, h, w: lambda s, x: F.interpolate(x, scale_factor=(1, 2)),
    "unstacked": lambda c, h, w: lambda s, x: torch.stack(x.unbind(1)[::-1], 1),
    "chosen": lambda c, h, w: lambda s, x: torch.where(s.numbers[: x.shape[3]] > 1, x, 0.3),
    "clipped": lambda c, h, w: lambda s, x: torch.maximum(x, s.constants[0]),
    "shuffled": lambda c, h, w: lambda s, x: F.pixel_shuffle(torch.cat([x] * 4, 1), 2)[:, :, 1:],
}
PASSED = {
    "relu": lambda c, h, w: nn.ReLU(inplace=True),
    "selu": lambda c, h, w: nn.SELU(),
    "tanh": lambda c, h, w: lambda s, x: x.tanh(),
    "dropout": lambda c, h, w: nn.Dropout2d(),
    "shifted": lambda c, h, w: lambda s, x: x + plane(s, x),
    "scaled": lambda c, h, w: lambda s, x: plane(s, x) * x,
    "normalised": lambda c, h, w: lambda s, x: (x - plane(s, x)) / s.numbers[None, : x.shape[1], None, None],
    "in place": lambda c, h, w: lambda s, x: x.clone().sub_(s.numbers[0]).div_(2),
    "turned over": lambda c, h, w: lambda s, x: 1 - x,
    "negated": lambda c, h, w: lambda s, x: -x.data,
    "masked": lambda c, h, w: lambda s, x: x * (x > -1),
    "group norm": lambda c, h, w: nn.GroupNorm(1, c),
}  # fmt: skip
DEFINITIONS = {
    "weighted": WEIGHTED, "linear": LINEAR, "proportional": PROPORTIONAL, "routed": ROUTED, "passed": PASSED,
}  # fmt: skip
NAMES = [(definition, name) for definition, found in DEFINITIONS.items() for name in found]
SAME_SHAPE = [("weighted", "keeping"), *(("passed", name) for name in PASSED)]


def build(plan, classes=3, size=5, channels=2, seed=0):
    """A network of a plan: names of operations, and ways of a residual with the names inside."""
    torch.manual_seed(seed)
    x = torch.randn(1, channels, size, size, dtype=torch.float64)
    network = Chain()
    for step in plan:
        network.append(_block(step, x))
        with torch.no_grad():
            x = network[-1](x)
    network.append(Block("passed", nn.Flatten()))
    network.append(Block("weighted", nn.Linear(x[0].numel(), classes).double(), convolves=False))
    return network.double().eval()


def _block(step, x):
    first, second = step
    if first in Residual.WAYS:
        inner = Chain()
        for name in second:
            inner.append(_leaf(*name, x))
        return Residual(inner, first).double().eval()
    return _leaf(first, second, x)


def _leaf(definition, name, x):
    c, h, w = x.shape[1:]
    if min(h, w) < 3:  # too small for another pooling
        definition, name = "passed", "selu"
    if name == "keeping":
        return Block("weighted", nn.Conv2d(c, c, 3, padding=1)).double().eval()
    operation = DEFINITIONS[definition][name](c, h, w)
    block = Block("weighted" if definition == "linear" else definition, operation, definition != "linear")
    return block.double().eval()
