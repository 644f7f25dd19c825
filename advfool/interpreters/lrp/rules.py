"""Define rules: how the relevance of a layer's output is shared among its inputs.

A rule is a frozen dataclass: its numbers are data, and calling it is a differentiable function of the layer's values,
its weights and the relevance of its output. Divisions are computed in float32 or a wider type.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from advfool.interpreters.lrp.layers import Layer
from advfool.utilities.checking import Checked, check_fields
from advfool.utilities.kinds import NonNegative

Relevance = Tensor | tuple[Tensor | None, ...] | None  # of a node's value: a tensor, a tuple of them, or none arrived


@dataclass(frozen=True)
class Rule(Checked, ABC):
    """Share the relevance of a layer's output among its inputs (abstract).

    The class attributes `reads_input` and `reads_output` say which of the layer's values the rule needs; the recording
    does not keep the others.
    """

    reads_input: ClassVar[bool] = True
    reads_output: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self)

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
    """Pass relevance unchanged to the first input: activations, dropout, scalings by numbers."""

    reads_input: ClassVar[bool] = False

    def __call__(self, layer: Layer, relevance: Relevance) -> list[Relevance]:
        return [relevance]


@dataclass(frozen=True)
class TakeAll(TensorRule):
    """Give all relevance to the one input that takes any, whatever the shape of the others: gates, constants.

    Source: Arras et al. 2017 (signal takes all).
    """

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        return [relevance.sum_to_size(layer.tensors[0].shape)]


@dataclass(frozen=True)
class GatedHalf(TensorRule):
    """Give all relevance of a gated linear unit to the first half of its input, which the second half gates.

    Args:
        dim: the dimension of the halves.

    Source: Arras et al. 2017 (signal takes all).
    """

    dim: int = -1
    reads_input: ClassVar[bool] = False

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        return [torch.cat([relevance, torch.zeros_like(relevance)], self.dim)]


@dataclass(frozen=True)
class Norm(TensorRule):
    """Share relevance in proportion to each input's contribution to the output: average pooling, sums.

    The rule is for operations that are linear in their inputs: `R_i = x_i * J_i^T (R / y)`.

    Args:
        stabiliser: moves the denominator away from zero.
    """

    stabiliser: NonNegative = 1e-6

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

    stabiliser: NonNegative = 1e-6
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
            inside = [_each(x, _traced) for x in layer.inputs]
            output = layer.run(*inside)
        flat = [t for x in inside for t in _tensors(x) if t.requires_grad]
        pairs = zip(_tensors(output), _tensors(relevance), strict=True)
        reached = [(o, r) for o, r in pairs if isinstance(r, Tensor) and o.requires_grad]
        if not reached:
            return [None for _ in inside]
        outputs, relevances = zip(*reached, strict=True)
        found = iter(torch.autograd.grad(outputs, flat, relevances, create_graph=create_graph, allow_unused=True))
        return [_each(x, lambda t: next(found) if t.requires_grad else None, tuple) for x in inside]


def _traced(t: Tensor) -> Tensor:
    """Return a copy that gradients can be taken with respect to; indices and masks stay as they are."""
    return precise(t.detach()).requires_grad_() if t.is_floating_point() else t


def _tensors(value: Any) -> list[Any]:
    """Return the tensors of a value; None stands for one to which no relevance arrived."""
    return list(value) if isinstance(value, tuple) else [value]


def _each(value: Any, change: Callable[[Tensor], Any], kind: type | None = None) -> Any:
    """Change the tensors of a value; tuples stay of their type (values and indices), or become of type `kind`."""
    if isinstance(value, Tensor):
        return change(value)
    return (kind or type(value))([None if t is None else change(t) for t in value])
