"""Layer-wise relevance propagation over a network's graph: rules as data, every operation differentiable."""

from advfool.relevance.composites import Composite, named_composite
from advfool.relevance.propagation import Propagation
from advfool.relevance.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass, Route, Rule, Split, Sum, ZBox, ZPlus

__all__ = [
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
