"""Define the LRP rules of linear layers and convolutions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advfool.interpreters.lrp.layers import Layer
from advfool.interpreters.lrp.linear import LinearMap
from advfool.interpreters.lrp.rules import TensorRule, precise, signed_like, stabilised
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import NonNegative


@dataclass(frozen=True)
class Term:
    """Describe a part of a layer's output, `linear.apply(x, weight, bias)`.

    Args:
        x: the part's input.
        weight: the part's weights.
        bias: the part's bias.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None


def _share(linear: LinearMap, terms: Sequence[Term], relevance: Tensor, away: Callable[[Tensor], Tensor]) -> Tensor:
    """Share relevance in proportion to the terms' contributions: `sum_t x_t * W_t^T (R / sum_t(W_t x_t + b_t))`.

    Args:
        linear: the layer's linear map.
        terms: the parts of its output that count.
        relevance: the relevance R of its output.
        away: moves the denominator away from zero, in place.
    """
    parts, joins = len(terms), linear.joins
    if joins and parts > 1:  # one wide map is faster than several
        biases = [t.bias for t in terms if t.bias is not None]
        x, weight = torch.cat([t.x for t in terms], joins[0]), torch.cat([t.weight for t in terms], joins[1])
        terms = [Term(x, weight, sum(biases[1:], biases[0]) if biases else None)]
    z, *others = (precise(linear.apply(t.x, t.weight, t.bias)) for t in terms)
    for other in others:
        z = z.add_(other)
    z = away(z)
    ratio = relevance / z if torch.is_grad_enabled() else torch.div(relevance, z, out=z)
    first, *rest = (_back(linear, t, ratio) for t in terms)
    if joins and parts > 1:
        first, *rest = first.chunk(parts, joins[0])
    return sum(rest, first)


def _back(linear: LinearMap, term: Term, ratio: Tensor) -> Tensor:
    share = precise(linear.transpose(ratio, term.weight, term.x))
    return precise(term.x) * share if torch.is_grad_enabled() else share.mul_(term.x)


def away_from_zero(stabiliser: float) -> Callable[[Tensor], Tensor]:
    """Return a function that adds `stabiliser` with the sign of each entry, in place."""
    return lambda z: z.add_(signed_like(stabiliser, z))


def above_zero(stabiliser: float) -> Callable[[Tensor], Tensor]:
    """Return a function that adds `stabiliser` to entries that cannot be negative, in place."""
    return lambda z: z.add_(stabiliser)


def _positive_terms(layer: Layer) -> list[Term]:
    """Return the contributions that raise the output: inputs and weights of the same sign."""
    x, linear = layer.tensors[0], layer.linear_map
    if layer.nonnegative:
        return [Term(x, linear.positive_weight(), _positive(linear.bias))]
    return [
        Term(x.clamp(min=0), linear.positive_weight(), _positive(linear.bias)),
        Term(x.clamp(max=0), linear.weight.clamp(max=0), None),
    ]


def _negative_terms(layer: Layer) -> list[Term]:
    """Return the contributions that lower the output: inputs and weights of opposite signs."""
    x, linear = layer.tensors[0], layer.linear_map
    if layer.nonnegative:
        return [Term(x, linear.weight.clamp(max=0), _negative(linear.bias))]
    return [
        Term(x.clamp(min=0), linear.weight.clamp(max=0), _negative(linear.bias)),
        Term(x.clamp(max=0), linear.positive_weight(), None),
    ]


def _clamp_below(value: Tensor) -> Tensor:
    return value.clamp(min=0)


def _clamp_above(value: Tensor) -> Tensor:
    return value.clamp(max=0)


def _positive(value: Tensor | None) -> Tensor | None:
    return None if value is None else _clamp_below(value)


def _negative(value: Tensor | None) -> Tensor | None:
    return None if value is None else _clamp_above(value)


@dataclass(frozen=True)
class Epsilon(TensorRule):
    """Share relevance in proportion to all contributions: `R_j = sum_k x_j w_jk / (z_k + epsilon sign z_k) R_k`.

    Args:
        epsilon: moves the denominator away from zero and absorbs relevance of weak outputs.

    Source: Bach et al. 2015, eq. 58.
    """

    epsilon: NonNegative = 0.01
    reads_output: ClassVar[bool] = True

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        x, linear = layer.tensors[0], layer.linear_map
        ratio = relevance / stabilised(precise(layer.value), self.epsilon)
        return [_back(linear, Term(x, linear.weight, linear.bias), ratio)]


@dataclass(frozen=True)
class ZPlus(TensorRule):
    """Share relevance in proportion to the positive contributions, including the bias's: alpha 1, beta 0.

    Args:
        stabiliser: moves the denominator away from zero.

    Source: Bach et al. 2015, eq. 60; Montavon et al. 2017, Section 4.2, for inputs that are not negative.
    """

    stabiliser: NonNegative = 1e-6

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        return [_share(layer.linear_map, _positive_terms(layer), relevance, above_zero(self.stabiliser))]


@dataclass(frozen=True)
class AlphaBeta(TensorRule):
    """Share relevance by positive contributions, times `alpha`, minus the share by negative ones, times `beta`.

    Args:
        alpha: weight of the positive contributions; alpha - beta must be 1, which conserves relevance.
        beta: weight of the negative contributions, at least 0.
        stabiliser: moves the denominators away from zero.

    Raises:
        AdvfoolError: alpha - beta is not 1, or a number is out of range.

    Source: Bach et al. 2015, eq. 60.
    """

    alpha: float = 2.0
    beta: float = 1.0
    stabiliser: NonNegative = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha - self.beta != 1 or self.beta < 0:
            raise AdvfoolError(
                f"AlphaBeta needs alpha - beta = 1 and beta >= 0, got alpha={self.alpha}, beta={self.beta}."
            )

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        share = self.alpha * _share(layer.linear_map, _positive_terms(layer), relevance, above_zero(self.stabiliser))
        if self.beta:
            below = away_from_zero(self.stabiliser)
            share = share - self.beta * _share(layer.linear_map, _negative_terms(layer), relevance, below)
        return [share]


@dataclass(frozen=True)
class Gamma(TensorRule):
    """Share relevance by all contributions, those with the sign of the output weighted 1 + `gamma` times.

    Where the output is 0, no relevance is passed on.

    Args:
        gamma: additional weight of the contributions with the sign of the output.
        stabiliser: moves the denominators away from zero.

    Source: Montavon et al. 2019, Section 10.2.1, for inputs that are not negative; the general form is that of
        Andeol et al. 2021 and of zennit.
    """

    gamma: NonNegative = 0.25
    stabiliser: NonNegative = 1e-6
    reads_output: ClassVar[bool] = True

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        x, linear, output = layer.tensors[0], layer.linear_map, layer.value
        raised, lowered = (
            (linear.weight + self.gamma * clamp(linear.weight), _plus(linear.bias, self.gamma, clamp))
            for clamp in (_clamp_below, _clamp_above)
        )
        found = []
        for where, (ours, bias), (theirs, _) in ((output > 0, raised, lowered), (output < 0, lowered, raised)):
            if layer.nonnegative:
                terms = [Term(x, ours, bias)]
            else:
                terms = [Term(x.clamp(min=0), ours, bias), Term(x.clamp(max=0), theirs, None)]
            found.append(_share(linear, terms, relevance * where, away_from_zero(self.stabiliser)))
        return [found[0] + found[1]]


def _plus(bias: Tensor | None, gamma: float, clamp: Callable[[Tensor], Tensor]) -> Tensor | None:
    return None if bias is None else bias + gamma * clamp(bias)


@dataclass(frozen=True)
class ZBox(TensorRule):
    """Share relevance of the first layer, whose inputs lie between `low` and `high`.

    Args:
        low: the smallest possible input, as one number or one for each channel.
        high: the largest possible input, likewise.
        stabiliser: moves the denominator away from zero.

    Source: Montavon et al. 2017, Section 4.3 (z^B rule).
    """

    low: float | Sequence[float]
    high: float | Sequence[float]
    stabiliser: NonNegative = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("low", "high"):  # as tuples, because rules are hashed
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, Sequence) else value)

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        x, linear = layer.tensors[0], layer.linear_map
        low, high = (_like(value, x) for value in (self.low, self.high))
        terms = [
            Term(x, linear.weight, None),  # the biases of the three terms cancel
            Term(-low, linear.positive_weight(), None),
            Term(-high, linear.weight.clamp(max=0), None),
        ]
        return [_share(linear, terms, relevance, away_from_zero(self.stabiliser))]


def _like(value: float | Sequence[float], x: Tensor) -> Tensor:
    """Return a tensor like `x` that is constant within each channel."""
    numbers = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return numbers.reshape(-1, *[1] * (x.dim() - 2)).expand_as(x)


@dataclass(frozen=True)
class Flat(TensorRule):
    """Share relevance equally among all inputs.

    Args:
        stabiliser: moves the denominator away from zero.

    Source: Lapuschkin et al. 2019.
    """

    stabiliser: NonNegative = 1e-6

    def shares(self, layer: Layer, relevance: Tensor) -> list[Tensor]:
        x, linear = layer.tensors[0], layer.linear_map.unscaled
        terms = [Term(torch.ones_like(x), torch.ones_like(linear.weight), None)]
        return [_share(linear, terms, relevance, above_zero(self.stabiliser))]
