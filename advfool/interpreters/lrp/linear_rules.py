"""LRP rules of linear layers and convolutions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advfool.interpreters.lrp.layers import Layer
from advfool.interpreters.lrp.linear import LinearMap
from advfool.interpreters.lrp.rules import Rule, precise, signed_like, stabilised
from advfool.utilities.errors import AdvfoolError


@dataclass(frozen=True)
class Term:
    """A part of a layer's output: `linear.apply(x, weight, bias)`."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None


def _share(linear: LinearMap, terms: Sequence[Term], relevance: Tensor, away: Callable[[Tensor], Tensor]) -> Tensor:
    """`sum_t x_t * W_t^T (R / sum_t(W_t x_t + b_t))`: relevance in proportion to the terms' contributions.

    `away` moves the denominator away from zero, in place.
    """
    parts, channels = len(terms), 1 if linear.stride else -1
    if linear.groups == 1 and parts > 1:  # one wide convolution is faster than several
        biases = [t.bias for t in terms if t.bias is not None]
        x, weight = torch.cat([t.x for t in terms], channels), torch.cat([t.weight for t in terms], 1)
        terms = [Term(x, weight, sum(biases[1:], biases[0]) if biases else None)]
    z, *others = (precise(linear.apply(t.x, t.weight, t.bias)) for t in terms)
    for other in others:
        z = z.add_(other)
    z = away(z)
    ratio = relevance / z if torch.is_grad_enabled() else torch.div(relevance, z, out=z)
    first, *rest = (_back(linear, t, ratio) for t in terms)
    if len(terms) < parts:
        first, *rest = first.chunk(parts, channels)
    return sum(rest, first)


def _back(linear: LinearMap, term: Term, ratio: Tensor) -> Tensor:
    share = precise(linear.transpose(ratio, term.weight, term.x))
    return precise(term.x) * share if torch.is_grad_enabled() else share.mul_(term.x)


def away_from_zero(stabiliser: float) -> Callable[[Tensor], Tensor]:
    """What adds `stabiliser` with the sign of each entry, in place."""
    return lambda z: z.add_(signed_like(stabiliser, z))


def above_zero(stabiliser: float) -> Callable[[Tensor], Tensor]:
    """The same for entries that cannot be negative."""
    return lambda z: z.add_(stabiliser)


def _positive_terms(layer: Layer) -> list[Term]:
    """The contributions that raise the output: positive inputs by positive weights, negative by negative."""
    x, linear = layer.inputs[0], layer.linear
    if layer.nonnegative:
        return [Term(x, linear.positive_weight(), _positive(linear.bias))]
    return [
        Term(x.clamp(min=0), linear.positive_weight(), _positive(linear.bias)),
        Term(x.clamp(max=0), linear.weight.clamp(max=0), None),
    ]


def _negative_terms(layer: Layer) -> list[Term]:
    """The contributions that lower the output."""
    x, linear = layer.inputs[0], layer.linear
    if layer.nonnegative:
        return [Term(x, linear.weight.clamp(max=0), _negative(linear.bias))]
    return [
        Term(x.clamp(min=0), linear.weight.clamp(max=0), _negative(linear.bias)),
        Term(x.clamp(max=0), linear.positive_weight(), None),
    ]


def _positive(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clamp(min=0)


def _negative(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clamp(max=0)


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
        return [_share(layer.linear, _positive_terms(layer), relevance, above_zero(self.stabiliser))]


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
        share = self.alpha * _share(layer.linear, _positive_terms(layer), relevance, above_zero(self.stabiliser))
        if self.beta:
            below = away_from_zero(self.stabiliser)
            share = share - self.beta * _share(layer.linear, _negative_terms(layer), relevance, below)
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
                terms = [Term(x.clamp(min=0), ours, bias), Term(x.clamp(max=0), theirs, None)]
            total = total + _share(linear, terms, relevance * where, away_from_zero(self.stabiliser))
        return [total]


def _plus(bias: Tensor | None, gamma: float, clamp) -> Tensor | None:
    return None if bias is None else bias + gamma * clamp(bias)


@dataclass(frozen=True)
class ZBox(Rule):
    """For the first layer: inputs between `low` and `high`, numbers or one for each channel.

    Source: Montavon et al. 2017, Section 4.3 (z^B rule).
    """

    low: float | Sequence[float]
    high: float | Sequence[float]
    stabiliser: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("low", "high"):  # rules are compared and hashed
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, Sequence) else value)

    def __call__(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        x, linear = layer.inputs[0], layer.linear
        low, high = (_like(value, x) for value in (self.low, self.high))
        terms = [
            Term(x, linear.weight, None),  # the biases of the three cancel
            Term(-low, linear.positive_weight(), None),
            Term(-high, linear.weight.clamp(max=0), None),
        ]
        return [_share(linear, terms, relevance, away_from_zero(self.stabiliser))]


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
        return [_share(layer.linear, terms, relevance, above_zero(self.stabiliser))]
