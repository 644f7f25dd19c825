"""Composites: which rule each kind of layer gets, as data."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from advfool.interpreters.lrp.linear_rules import AlphaBeta, Epsilon, Flat, Gamma, ZBox, ZPlus
from advfool.interpreters.lrp.operations import Key
from advfool.interpreters.lrp.rules import Norm, Pass, Route, Rule, Sum
from advfool.utilities.errors import AdvfoolError, check_choice

BatchNorm = Literal["fold", "pass"]


@dataclass(frozen=True)
class Composite:
    """Rules as data: one for convolutions, for linear layers, for the first of them (null: as the others).

    `batchnorm` is `fold` (into the convolution or linear layer before it; without one, relevance passes) or
    `pass`. `rules` is for what has no rule of its own, or is to have another: dotted names of module classes or
    functions, or names of tensor methods, with a rule or one of the words pass, norm, route.
    """

    convolution: Rule = ZPlus()
    linear: Rule = Epsilon()
    first: Rule | None = None
    sum: Rule = Sum()
    average: Rule = Norm()
    batchnorm: str = "fold"
    rules: tuple[tuple[Key, Rule], ...] | Mapping[str | Key, Rule | str] = ()

    def __post_init__(self) -> None:
        check_choice("batchnorm", self.batchnorm, BatchNorm)
        rules = self.rules.items() if isinstance(self.rules, Mapping) else self.rules
        object.__setattr__(self, "rules", tuple((_key(key), _rule(rule)) for key, rule in rules))

    @property
    def leaves(self) -> frozenset[type]:
        """The module classes that have a rule as a whole."""
        return frozenset(key for key, _ in self.rules if isinstance(key, type))


def named_composite(
    name: str,
    epsilon: float = 0.01,
    stabiliser: float = 1e-6,
    low: float | tuple[float, ...] | None = None,
    high: float | tuple[float, ...] | None = None,
) -> Composite:
    """zennit's composites by name: epsilon_plus, epsilon_alpha2_beta1, epsilon_gamma_box, each also with _flat.

    The epsilon rule on linear layers; on convolutions z+, alpha 2 beta 1, or gamma (0.25). `_flat` has the flat
    rule on the first layer; `epsilon_gamma_box` the z^B rule for inputs between `low` and `high`.

    Raises:
        AdvfoolError: the name is unknown, or the box lacks its bounds.
    """
    kind = name.removesuffix("_flat")
    convolutions = {
        "epsilon_plus": ZPlus(stabiliser),
        "epsilon_alpha2_beta1": AlphaBeta(2.0, 1.0, stabiliser),
        "epsilon_gamma_box": Gamma(0.25, stabiliser),
    }
    if kind not in convolutions:
        names = [*convolutions, *(f"{c}_flat" for c in convolutions)]
        raise AdvfoolError(f"There is no composite '{name}'. There are: {', '.join(names)}.")
    first = None
    if name.endswith("_flat"):
        first = Flat(stabiliser)
    elif name == "epsilon_gamma_box":
        if low is None or high is None:
            raise AdvfoolError(
                "composite=epsilon_gamma_box needs the range of the network's input: give the mean and std of its "
                "normalisation (interp.mean=[...] interp.std=[...]), or a Composite with first=ZBox(low, high)."
            )
        first = ZBox(low, high, stabiliser)
    return Composite(convolutions[kind], Epsilon(epsilon), first, Sum(stabiliser), Norm(stabiliser))


def _rule(rule: Rule | str) -> Rule:
    words = {"pass": Pass(), "norm": Norm(), "route": Route()}
    if isinstance(rule, Rule):
        return rule
    if rule not in words:
        raise AdvfoolError(f"rules: expected a rule or one of {', '.join(words)}, got {rule!r}.")
    return words[rule]


def _key(key: str | Key) -> Key:
    """The class or function of a dotted name; names without a dot are tensor methods."""
    if not isinstance(key, str):
        return key
    if "." not in key:
        if not hasattr(Tensor, key):
            raise AdvfoolError(f"rules: a tensor has no method '{key}'. Classes and functions need their module.")
        return key
    module, name = key.rsplit(".", 1)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise AdvfoolError(f"rules: there is no '{key}' to give a rule to ({error}).") from error
