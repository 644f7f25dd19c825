"""How one layer's relevance is shared among its inputs.

A rule is a frozen dataclass: its numbers are data, its call is a differentiable function of the layer's values, its
weights and the relevance of its output. Divisions are in float32 at least.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advfool.interpreters.lrp.layers import Layer

Relevance = Tensor | tuple[Tensor | None, ...] | None  # of a node's value: a tensor, or a tuple of them


@dataclass(frozen=True)
class Rule(ABC):
    """Abstract: shares the relevance of a layer's output among its inputs.

    `reads_input` and `reads_output` say which values it needs; the others are not kept.
    """

    reads_input: ClassVar[bool] = True
    reads_output: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, layer: Layer, relevance: Relevance) -> list[Relevance]:
        """The relevance of each input."""


def precise(value: Tensor) -> Tensor:
    """At least float32, because relevance is divided by it."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def stabilised(z: Tensor, stabiliser: float) -> Tensor:
    """z moved away from zero by `stabiliser`."""
    return z + signed_like(stabiliser, z)


def signed_like(stabiliser: float, z: Tensor) -> Tensor:
    return torch.copysign(z.new_tensor(stabiliser), z.detach())


@dataclass(frozen=True)
class Pass(Rule):
    """Hands relevance on as it is, to the first input: activations, dropout, scalings."""

    reads_input: ClassVar[bool] = False

    def __call__(self, layer: Layer, relevance: Relevance) -> list[Relevance]:
        return [relevance]


@dataclass(frozen=True)
class Gate(Rule):
    """All relevance of a product goes to what is gated, whatever the gate's shape."""

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        return [relevance.sum_to_size(layer.inputs[0].shape)]


@dataclass(frozen=True)
class Norm(Rule):
    """Relevance in proportion to what each input contributes to the output: average pooling, sums.

    For operations that are linear in their inputs: `R_i = x_i * J_i^T (R / y)`.
    """

    stabiliser: float = 1e-6

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        create_graph = torch.is_grad_enabled()
        values = [precise(x) for x in layer.inputs]
        with torch.enable_grad():
            inside = [(x if create_graph else x.detach()).view_as(x) for x in values]
            for x in inside:
                if not x.requires_grad:
                    x.requires_grad_()
            output = layer.call(*inside)
        y = output if create_graph else output.detach()
        ratio = relevance / stabilised(y, self.stabiliser)
        shares = torch.autograd.grad(output, inside, ratio, create_graph=create_graph)
        return [x * share for x, share in zip(values, shares, strict=True)]


@dataclass(frozen=True)
class Sum(Rule):
    """Relevance of a sum in proportion to its summands: residual connections. The same as Norm, in fewer steps."""

    stabiliser: float = 1e-6
    reads_output: ClassVar[bool] = True

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        y = precise(layer.output)
        summands = [precise(x) for x in layer.inputs]
        if len(summands) != 2 or any(x.shape != y.shape for x in summands):
            return Norm(self.stabiliser)(layer, relevance)
        a, b = summands
        if torch.is_grad_enabled():
            ratio = relevance / stabilised(y, self.stabiliser)
            return [a * ratio, b * ratio]
        z = signed_like(self.stabiliser, y).add_(y)
        ratio = torch.div(relevance, z, out=z)
        return [a * ratio, ratio.mul_(b)]


@dataclass(frozen=True)
class Split(Rule):
    """Each part of a concatenation along `dim` gets its own relevance."""

    dim: int = 0

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        return list(relevance.split([x.shape[self.dim] for x in layer.inputs], self.dim))


@dataclass(frozen=True)
class Route(Rule):
    """Relevance goes to where each value came from: max pooling, reshapes, selection."""

    def __call__(self, layer: Layer, relevance: Relevance) -> list[Relevance]:
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            inside = [
                tuple(None if t is None else precise(t.detach()).requires_grad_() for t in x)
                if isinstance(x, tuple)
                else precise(x.detach()).requires_grad_()
                for x in layer.inputs
            ]
            output = layer.call(*inside)
        flat = [t for x in inside for t in (x if isinstance(x, tuple) else (x,)) if t is not None]
        pairs = zip(*(v if isinstance(v, tuple) else (v,) for v in (output, relevance)), strict=True)
        outputs, relevances = zip(*((o, r) for o, r in pairs if r is not None), strict=True)
        found = iter(torch.autograd.grad(outputs, flat, relevances, create_graph=create_graph, allow_unused=True))
        return [
            tuple(None if t is None else next(found) for t in x) if isinstance(x, tuple) else next(found)
            for x in inside
        ]
