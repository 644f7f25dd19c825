"""Define rules: how the relevance of a layer's output is shared among its inputs.

A rule is a frozen dataclass: its numbers are data, and calling it is a differentiable function of the layer's values,
its weights and the relevance of its output. Divisions are computed in float32 or a wider type.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advfool.interpreters.lrp.layers import Layer

Relevance = Tensor | tuple[Tensor | None, ...] | None  # of a node's value: a tensor, a tuple of them, or none arrived


@dataclass(frozen=True)
class Rule(ABC):
    """Share the relevance of a layer's output among its inputs (abstract).

    The class attributes `reads_input` and `reads_output` say which of the layer's values the rule needs; the recording
    does not keep the others.
    """

    reads_input: ClassVar[bool] = True
    reads_output: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, layer: Layer, relevance: Relevance) -> Sequence[Relevance]:
        """Return the relevance of each input.

        Args:
            layer: the layer, with the values that the rule reads.
            relevance: the relevance of the layer's output, in the form of the output.
        """


@dataclass(frozen=True)
class TensorRule(Rule):
    """Share the relevance of a layer whose output and inputs are tensors (abstract)."""

    def __call__(self, layer: Layer, relevance: Relevance) -> list[Tensor]:
        if not isinstance(relevance, Tensor):
            raise TypeError(f"{type(self).__name__} is a rule of layers that return one tensor.")
        return self.shares(layer, relevance)

    @abstractmethod
    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        """Return the relevance of each input."""


def precise(value: Tensor) -> Tensor:
    """Convert to float32 unless the type is as wide already, because relevance is divided by the value."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def stabilised(z: Tensor, stabiliser: float) -> Tensor:
    """Move each entry away from zero by `stabiliser`."""
    return z + signed_like(stabiliser, z)


def signed_like(stabiliser: float, z: Tensor) -> Tensor:
    """Return `stabiliser` with the sign of each entry of `z`."""
    return torch.copysign(z.new_tensor(stabiliser), z.detach())


@dataclass(frozen=True)
class Pass(Rule):
    """Pass relevance unchanged to the first input: activations, dropout, scalings."""

    reads_input: ClassVar[bool] = False

    def __call__(self, layer: Layer, relevance: Relevance) -> list[Relevance]:
        return [relevance]


@dataclass(frozen=True)
class Gate(TensorRule):
    """Give all relevance of a product to the gated value, whatever the shape of the gate.

    Source: Arras et al. 2017 (signal takes all).
    """

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        return [relevance.sum_to_size(layer.tensors[0].shape)]


@dataclass(frozen=True)
class Norm(TensorRule):
    """Share relevance in proportion to each input's contribution to the output: average pooling, sums.

    The rule is for operations that are linear in their inputs: `R_i = x_i * J_i^T (R / y)`.

    Args:
        stabiliser: moves the denominator away from zero.
    """

    stabiliser: float = 1e-6

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        create_graph = torch.is_grad_enabled()
        values = [precise(x) for x in layer.tensors]
        with torch.enable_grad():
            inside = [(x if create_graph else x.detach()).view_as(x) for x in values]
            for x in inside:
                if not x.requires_grad:
                    x.requires_grad_()
            output = layer.run(*inside)
        y = output if create_graph else output.detach()
        ratio = relevance / stabilised(y, self.stabiliser)
        shares = torch.autograd.grad(output, inside, ratio, create_graph=create_graph)
        return [x * share for x, share in zip(values, shares, strict=True)]


@dataclass(frozen=True)
class Sum(TensorRule):
    """Share the relevance of a sum in proportion to its summands: residual connections.

    The result is that of Norm, in fewer steps.

    Args:
        stabiliser: moves the denominator away from zero.
    """

    stabiliser: float = 1e-6
    reads_output: ClassVar[bool] = True

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        y = precise(layer.value)
        summands = [precise(x) for x in layer.tensors]
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
class Split(TensorRule):
    """Give each part of a concatenation its own relevance.

    Args:
        dim: the dimension of the concatenation.
    """

    dim: int = 0

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        return list(relevance.split([x.shape[self.dim] for x in layer.tensors], self.dim))


@dataclass(frozen=True)
class Route(Rule):
    """Return relevance to where each value came from: max pooling, reshapes, selection."""

    def __call__(self, layer: Layer, relevance: Relevance) -> list[Relevance]:
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            inside = [
                tuple(None if t is None else precise(t.detach()).requires_grad_() for t in x)
                if isinstance(x, tuple)
                else precise(x.detach()).requires_grad_()
                for x in layer.inputs
            ]
            output = layer.run(*inside)
        flat = [t for x in inside for t in (x if isinstance(x, tuple) else (x,)) if t is not None]
        pairs = zip(*(v if isinstance(v, tuple) else (v,) for v in (output, relevance)), strict=True)
        outputs, relevances = zip(*((o, r) for o, r in pairs if r is not None), strict=True)
        found = iter(torch.autograd.grad(outputs, flat, relevances, create_graph=create_graph, allow_unused=True))
        return [
            tuple(None if t is None else next(found) for t in x) if isinstance(x, tuple) else next(found)
            for x in inside
        ]
