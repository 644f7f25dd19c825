"""Layer-wise relevance propagation over a network's graph: rules as data, every operation differentiable."""

from advfool.interpreters.lrp.composites import Composite, named_composite
from advfool.interpreters.lrp.interpreter import LRP
from advfool.interpreters.lrp.linear_rules import AlphaBeta, Epsilon, Flat, Gamma, ZBox, ZPlus
from advfool.interpreters.lrp.propagation import Propagation
from advfool.interpreters.lrp.rules import Norm, Pass, Route, Rule, Split, Sum

__all__ = [
    "LRP",
    "AlphaBeta",
    "Composite",
    "Epsilon",
    "Flat",
    "Gamma",
    "Norm",
    "Pass",
    "Propagation",
    "Route",
    "Rule",
    "Split",
    "Sum",
    "ZBox",
    "ZPlus",
    "named_composite",
]
