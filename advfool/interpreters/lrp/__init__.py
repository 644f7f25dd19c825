"""Propagate relevance layer by layer through a network's graph (LRP), with rules as data.

Every operation is differentiable in the network's parameters.

- `Epsilon`, `ZPlus`, `AlphaBeta`, `Gamma`, `ZBox` and `Flat` share the relevance of convolutions and linear layers.
- `Sum` and `Norm` share that of operations that are linear in their inputs: residual sums, average pooling.
- `Split` and `Route` return it along concatenations, reshapes and max pooling.
- `Pass` hands it on unchanged: activations, dropout, normalisations of the image's own statistics.

A `Composite` says which rule each kind of layer gets.
"""

from advfool.interpreters.lrp.composites import Composite, named_composite
from advfool.interpreters.lrp.interpreter import LRP
from advfool.interpreters.lrp.linear_rules import AlphaBeta, Epsilon, Flat, Gamma, ZBox, ZPlus
from advfool.interpreters.lrp.propagation import Propagation
from advfool.interpreters.lrp.rules import Norm, Pass, Route, Rule, Split, Sum, TensorRule

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
    "TensorRule",
    "ZBox",
    "ZPlus",
    "named_composite",
]
