"""How one layer's relevance is shared among its inputs.

A rule is a frozen dataclass: its numbers are data, its call is a differentiable function of the layer's values, its
weights and the relevance of its output. Divisions are in float32 at least.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advfool.errors import AdvfoolError
from advfool.relevance.layers import Layer, LinearMap

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


# Rules of linear layers and convolutions


@dataclass(frozen=True)
class Term:
    """A part of a layer's output: `linear.apply(x, weight, bias)`."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None


def _share(linear: LinearMap, terms: Sequence[Term], relevance: Tensor, stabiliser: float) -> Tensor:
    """`sum_t x_t * W_t^T (R / sum_t(W_t x_t + b_t))`: relevance in proportion to the terms' contributions."""
    z = sum(precise(linear.apply(t.x, t.weight, t.bias)) for t in terms)
    ratio = relevance / stabilised(z, stabiliser)
    return sum(_back(linear, t, ratio) for t in terms)


def _back(linear: LinearMap, term: Term, ratio: Tensor) -> Tensor:
    return precise(term.x) * precise(linear.transpose(ratio, term.weight, term.x))


def precise(value: Tensor) -> Tensor:
    """At least float32, because relevance is divided by it."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def stabilised(z: Tensor, stabiliser: float) -> Tensor:
    """z moved away from zero by `stabiliser` (zero counts as positive)."""
    sign = torch.where(z.detach() < 0, -stabiliser, stabiliser)
    return z + sign.to(z.dtype)


def _positive(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clamp(min=0)


def _negative(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clamp(max=0)


def _positive_terms(layer: Layer) -> list[Term]:
    """The contributions that raise the output: positive inputs by positive weights, negative by negative."""
    x, linear = layer.inputs[0], layer.linear
    if layer.nonnegative:
        return [Term(x, _positive(linear.weight), _positive(linear.bias))]
    return [
        Term(_positive(x), _positive(linear.weight), _positive(linear.bias)),
        Term(_negative(x), _negative(linear.weight), None),
    ]


def _negative_terms(layer: Layer) -> list[Term]:
    """The contributions that lower the output."""
    x, linear = layer.inputs[0], layer.linear
    if layer.nonnegative:
        return [Term(x, _negative(linear.weight), _negative(linear.bias))]
    return [
        Term(_positive(x), _negative(linear.weight), _negative(linear.bias)),
        Term(_negative(x), _positive(linear.weight), None),
    ]


@dataclass(frozen=True)
class Epsilon(Rule):
    """`R_j = sum_k x_j w_jk / (z_k + epsilon sign z_k) R_k`. Source: Bach et al. 2015, eq. 58."""

    epsilon: float = 0.01
    reads_output: ClassVar[bool] = True

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        x, linear = layer.inputs[0], layer.linear
        ratio = relevance / stabilised(precise(layer.output), self.epsilon)
        return [_back(linear, Term(x, linear.weight, linear.bias), ratio)]


@dataclass(frozen=True)
class ZPlus(Rule):
    """Relevance in proportion to the positive contributions, bias included: alpha 1, beta 0.

    Source: Bach et al. 2015, eq. 60; Montavon et al. 2017, Section 4.2, there for inputs that are not negative.
    """

    stabiliser: float = 1e-6

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        return [_share(layer.linear, _positive_terms(layer), relevance, self.stabiliser)]


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """`alpha` times the share by positive contributions less `beta` times that by negative ones.

    Raises:
        AdvfoolError: alpha - beta is not 1, so that relevance would not be conserved.
    Source: Bach et al. 2015, eq. 60.
    """

    alpha: float = 2.0
    beta: float = 1.0
    stabiliser: float = 1e-6

    def __post_init__(self) -> None:
        if self.alpha - self.beta != 1 or self.beta < 0:
            raise AdvfoolError(
                f"AlphaBeta needs alpha - beta = 1 and beta >= 0, got alpha={self.alpha}, beta={self.beta}."
            )

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        share = self.alpha * _share(layer.linear, _positive_terms(layer), relevance, self.stabiliser)
        if self.beta:
            share = share - self.beta * _share(layer.linear, _negative_terms(layer), relevance, self.stabiliser)
        return [share]


@dataclass(frozen=True)
class Gamma(Rule):
    """Like epsilon, with the contributions of the output's own sign weighted 1 + `gamma` times.

    Source: Montavon et al. 2019, Section 10.2.1 (inputs that are not negative); in the general form of Andeol
    et al. 2021, as zennit has it. Where the output is 0 no relevance is handed on.
    """

    gamma: float = 0.25
    stabiliser: float = 1e-6
    reads_output: ClassVar[bool] = True

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        x, linear, output = layer.inputs[0], layer.linear, layer.output
        raised, lowered = (
            (linear.weight + self.gamma * clamp(linear.weight), _plus(linear.bias, self.gamma, clamp))
            for clamp in (_positive, _negative)
        )
        total = 0
        for where, (ours, bias), (theirs, _) in ((output > 0, raised, lowered), (output < 0, lowered, raised)):
            if layer.nonnegative:
                terms = [Term(x, ours, bias)]
            else:
                terms = [Term(_positive(x), ours, bias), Term(_negative(x), theirs, None)]
            total = total + _share(linear, terms, relevance * where, self.stabiliser)
        return [total]


def _plus(bias: Tensor | None, gamma: float, clamp) -> Tensor | None:
    return None if bias is None else bias + gamma * clamp(bias)


@dataclass(frozen=True)
class ZBox(Rule):
    """For the first layer: inputs between `low` and `high`, numbers or one for each channel.

    Source: Montavon et al. 2017, Section 4.3 (z^B rule).
    """

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    stabiliser: float = 1e-6

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        x, linear = layer.inputs[0], layer.linear
        low, high = (_like(value, x) for value in (self.low, self.high))
        terms = [
            Term(x, linear.weight, None),  # the biases of the three cancel
            Term(-low, _positive(linear.weight), None),
            Term(-high, _negative(linear.weight), None),
        ]
        return [_share(linear, terms, relevance, self.stabiliser)]


def _like(value: float | Sequence[float], x: Tensor) -> Tensor:
    value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return value.reshape(-1, *[1] * (x.dim() - 2)).expand_as(x)


@dataclass(frozen=True)
class Flat(Rule):
    """Relevance in equal shares to all inputs. Source: Lapuschkin et al. 2019."""

    stabiliser: float = 1e-6

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        x, weight = layer.inputs[0], layer.linear.weight
        terms = [Term(torch.ones_like(x), torch.ones_like(weight), None)]
        return [_share(layer.linear, terms, relevance, self.stabiliser)]


# Rules of everything else


@dataclass(frozen=True)
class Pass(Rule):
    """Hands relevance on as it is, to the input numbered `to`: activations, dropout, gates, scalings."""

    to: int = 0
    reads_input: ClassVar[bool] = False

    def __call__(self, layer: Layer, relevance: Relevance) -> list[Relevance]:
        return [relevance if i == self.to else None for i in range(self.to + 1)]


@dataclass(frozen=True)
class Norm(Rule):
    """Relevance in proportion to what each input contributes to the output: sums, average pooling.

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
        shares = torch.autograd.grad(
            output, inside, relevance / stabilised(y, self.stabiliser), create_graph=create_graph
        )
        return [x * share for x, share in zip(values, shares, strict=True)]


@dataclass(frozen=True)
class Route(Rule):
    """Relevance goes to where each value came from: max pooling, reshapes, concatenation, selection."""

    def __call__(self, layer: Layer, relevance: Relevance) -> list[Relevance]:
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            inside = [
                tuple(precise(t.detach()).requires_grad_() for t in x)
                if isinstance(x, tuple)
                else precise(x.detach()).requires_grad_()
                for x in layer.inputs
            ]
            output = layer.call(*inside)
        flat = [t for x in inside for t in (x if isinstance(x, tuple) else (x,))]
        pairs = zip(*(v if isinstance(v, tuple) else (v,) for v in (output, relevance)), strict=True)
        outputs, relevances = zip(*((o, r) for o, r in pairs if r is not None), strict=True)
        found = iter(torch.autograd.grad(outputs, flat, relevances, create_graph=create_graph, allow_unused=True))
        return [tuple(next(found) for _ in x) if isinstance(x, tuple) else next(found) for x in inside]
