"""Define composites: which rule each kind of layer gets, as data."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from advfool.interpreters.lrp.linear_rules import AlphaBeta, Epsilon, Flat, Gamma, ZBox, ZPlus
from advfool.interpreters.lrp.operations import Key
from advfool.interpreters.lrp.rules import Norm, Pass, Route, Rule, Sum
from advfool.utilities.checking import Checked, check_fields
from advfool.utilities.errors import AdvfoolError

BatchNorm = Literal["fold", "pass"]
Rules = tuple[tuple[Key, Rule], ...] | Mapping[Key, Rule | str]


@dataclass(frozen=True)
class Composite(Checked):
    """Assign a rule to each kind of layer.

    Args:
        convolution: the rule of convolutions.
        linear: the rule of linear layers.
        first: the rule of the first convolution or linear layer; None treats it like the others.
        sum: the rule of sums of several values.
        average: the rule of average pooling and other means.
        batchnorm: `fold` treats a batch norm as part of the convolution or linear layer before it, and passes
            relevance where there is none; `pass` always passes relevance.
        rules: further rules, by module class, function, their dotted name, or the name of a tensor method. A rule
            can be a `Rule` or one of the words pass, norm, route. They take precedence over the others.

    Raises:
        AdvfoolError: `rules` names something that does not exist, or `batchnorm` is another word.
    """

    convolution: Rule = ZPlus()
    linear: Rule = Epsilon()
    first: Rule | None = None
    sum: Rule = Sum()
    average: Rule = Norm()
    batchnorm: BatchNorm = "fold"
    rules: Rules = ()

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "rules", tuple((_key(key), _rule(rule)) for key, rule in _pairs(self.rules)))

    @property
    def own_rules(self) -> dict[Key, Rule]:
        """The further rules, by module class, function or name of a tensor method."""
        return {_key(key): _rule(rule) for key, rule in _pairs(self.rules)}

    @property
    def leaves(self) -> frozenset[type]:
        """The module classes that `rules` treats as a whole."""
        return frozenset(key for key in self.own_rules if isinstance(key, type))


def named_composite(
    name: str,
    epsilon: float = 0.01,
    stabiliser: float = 1e-6,
    low: float | tuple[float, ...] | None = None,
    high: float | tuple[float, ...] | None = None,
) -> Composite:
    """Build one of zennit's composites.

    All use the epsilon rule on linear layers. On convolutions, `epsilon_plus` uses z+, `epsilon_alpha2_beta1` uses
    alpha 2 beta 1, and `epsilon_gamma_box` uses gamma (0.25) and the z^B rule on the first layer. With the ending
    `_flat`, the flat rule is used on the first layer.

    Args:
        name: one of those names, with or without `_flat`.
        epsilon: the epsilon of linear layers.
        stabiliser: moves all other denominators away from zero.
        low: the smallest possible input, as one number or one for each channel; for `epsilon_gamma_box`.
        high: the largest possible input, likewise.

    Raises:
        AdvfoolError: the name is unknown, or the bounds of `epsilon_gamma_box` are missing.
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


def _pairs(rules: Rules) -> tuple[tuple[Key, Rule | str], ...]:
    return tuple(rules.items()) if isinstance(rules, Mapping) else rules


def _key(key: Key) -> Key:
    """Return the class or function of a dotted name; names without a dot are tensor methods."""
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
