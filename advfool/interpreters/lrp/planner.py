"""Plan the walk from the logits back to a site: one rule for each node."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import fx, nn

from advfool.interpreters.lrp import operations as kinds
from advfool.interpreters.lrp.composites import Composite
from advfool.interpreters.lrp.dependence import dependent_nodes, sources
from advfool.interpreters.lrp.keys import key_of, no_rule
from advfool.interpreters.lrp.operations import KIND_OF, Key, Kind
from advfool.interpreters.lrp.rules import GatedHalf, Pass, Route, Rule, Split, TakeAll
from advfool.interpreters.lrp.signs import Signs
from advfool.interpreters.lrp.steps import BATCH_NORM_NAMES, Step, argument, layer_arguments
from advfool.interpreters.tracing.graph import Trace, target_name
from advfool.interpreters.tracing.sites import Site
from advfool.utilities.errors import AdvfoolError


class Planner:
    """Give each node between a site and the logits its rule.

    Args:
        trace: the network's graph.
        site: the activation at which the walk ends.
        composite: the rules.
    """

    def __init__(self, trace: Trace, site: Site, composite: Composite) -> None:
        self.trace, self.composite = trace, composite
        self.modules = trace.modules
        self.extra = composite.own_rules
        self.nodes = trace.after(site)
        self.dependent = dependent_nodes(trace)
        self.signs = Signs(trace, lambda node: self._own_rule(node) is not None)
        self.linear = {n for n in trace.graph.nodes if n in self.dependent and self._is_linear(n)}
        self.below_linear = self._below_linear()

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the walk, from the logits back.

        Raises:
            AdvfoolError: a node on the way has no rule.
        """
        receiving = {self.trace.logits}  # gates and constants receive no relevance and need no rule
        found: list[Step] = []
        for node in reversed(self.nodes):
            if node in receiving and node in self.dependent:
                found.append(self._step(node))
                receiving.update(found[-1].inputs)
        return tuple(found)

    def _step(self, node: fx.Node) -> Step:
        if (rule := self._own_rule(node)) and node not in self.linear:
            return Step(node, tuple(self._inputs(node)), rule)
        key = self._key(node)
        if node in self.linear:
            return self._linear(node, node)
        if (kind := KIND_OF.get(key)) is None:
            raise no_rule(node, key)
        return PLANS[kind](self, node)

    def _own_rule(self, node: fx.Node) -> Rule | None:
        """Return the node's rule in `rules`; that of a subclass precedes that of its torch class."""
        own = self.extra.get(type(self.modules[target_name(node)])) if node.op == "call_module" else None
        return own or self.extra.get(self._key(node))

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        """Return the inputs that depend on the images; one that appears twice is listed twice."""
        return [n for n in sources(node, self.trace) if n in self.dependent]

    def _only_input(self, node: fx.Node) -> fx.Node:
        """Return the one input that depends on the images, which must be the first.

        Raises:
            AdvfoolError: parameters of the operation depend on the images, too.
        """
        first = argument(node, 0, "input")
        if self._inputs(node) != [first]:
            raise no_rule(node, self._key(node), " whose weights or parameters depend on the images")
        return cast(fx.Node, first)

    def _pass(self, node: fx.Node) -> Step:
        return Step(node, (self._only_input(node),), Pass())

    def _route(self, node: fx.Node) -> Step:
        return Step(node, tuple(dict.fromkeys(self._inputs(node))), Route())

    def _average(self, node: fx.Node) -> Step:
        return Step(node, tuple(dict.fromkeys(self._inputs(node))), self.composite.average)

    def _power(self, node: fx.Node) -> Step:
        exponent = argument(node, 1, "exponent")
        if isinstance(exponent, int | float) and exponent <= 0:
            raise no_rule(node, self._key(node), " with an exponent that is not positive")
        return self._pass(node)

    def _blend(self, node: fx.Node) -> Step:
        if argument(node, 2, "weight") in self.dependent:
            raise no_rule(node, self._key(node), " whose weights depend on the images")
        inputs = tuple(self._inputs(node))
        return self._average(node) if len(inputs) > 1 else Step(node, inputs, TakeAll())  # the other is a constant

    def _resampling(self, node: fx.Node) -> Step:
        if node.op == "call_module":
            module = self.modules[target_name(node)]
            mode = getattr(module, "mode", getattr(module, "interpolation", ""))
            mode = getattr(mode, "value", mode)
        elif self._key(node) is F.interpolate:
            mode = argument(node, 3, "mode") or "nearest"
        else:  # at the places of a grid
            mode = argument(node, 2, "mode") or "bilinear"
            mode = "nearest" if mode == 1 else mode
        self._only_input(node)
        return self._route(node) if str(mode).startswith("nearest") else self._average(node)

    def _arithmetic(self, node: fx.Node) -> Step:
        """Plan sums, differences, products and quotients."""
        key, inputs = self._key(node), tuple(self._inputs(node))
        if len(inputs) == 1:
            if key in kinds.QUOTIENT and argument(node, 0, "input") is not inputs[0]:
                raise no_rule(node, key, " of a constant by a value that depends on the images")
            constant = len(sources(node, self.trace)) > 1  # its shape may be larger
            return Step(node, inputs, TakeAll() if constant else Pass())
        if key in kinds.SUM:
            weighted = "alpha" in node.kwargs  # torch.add(a, b, alpha=2)
            return self._average(node) if weighted else Step(node, inputs, self.composite.sum)
        if key in kinds.DIFFERENCE:
            return self._average(node)
        if key in kinds.AFFINE:
            raise no_rule(node, key, " of several values that depend on the images")
        return Step(node, self._gated(node, key, inputs), TakeAll())

    def _gated(self, node: fx.Node, key: Key, inputs: tuple[fx.Node, ...]) -> tuple[fx.Node, ...]:
        signals = tuple(n for n in inputs if not self._is_gate(n))
        if key in kinds.QUOTIENT and signals != inputs[:1]:
            raise no_rule(node, key, " of a value by another one, unless that is a gate")
        if len(signals) != 1 or len(inputs) != 2:
            raise no_rule(node, key, " of two values of which neither, or both, come from a sigmoid")
        return signals

    def _is_gate(self, node: fx.Node) -> bool:
        """Return whether the value is a sigmoid's, or one that was reshaped, shifted and scaled by constants."""
        between = (kinds.REORDER, kinds.UNCHANGED, *kinds.ARITHMETIC)
        while any(self._key(node) in kind for kind in between) and len(inputs := self._inputs(node)) == 1:
            node = inputs[0]
        return self._key(node) in kinds.GATE

    def _gate(self, node: fx.Node) -> Step:
        raise no_rule(
            node,
            self._key(node),
            " outside a gate (a product of a sigmoid with what it gates). If it is the network's last layer, explain "
            "the logits before it",
        )

    def _gated_half(self, node: fx.Node) -> Step:
        module = self.modules[target_name(node)] if node.op == "call_module" else None
        dim = module.dim if isinstance(module, nn.GLU) else argument(node, 1, "dim")
        return Step(node, (self._only_input(node),), GatedHalf(-1 if dim is None else cast(int, dim)))

    def _concatenation(self, node: fx.Node) -> Step:
        parts = argument(node, 0, "tensors")
        if isinstance(parts, fx.Node):  # torch.cat(x.chunk(2))
            return Step(node, (parts,), Route())
        dim = argument(node, 1, "dim")
        whole = cast(tuple[fx.Node, ...], tuple(cast(Sequence[Any], parts)))
        return Step(node, whole, Split(0 if dim is None else cast(int, dim)))

    def _is_linear(self, node: fx.Node) -> bool:
        """Return whether the node is linear in one value, with weights that are given."""
        key = self._key(node)
        if key in kinds.CONTRACTION:
            operands = sources(node, self.trace)
            return len(operands) == 2 and len(self._inputs(node)) == 1
        return key in kinds.WEIGHTED

    def _contraction(self, node: fx.Node) -> Step:
        if len(self._inputs(node)) > 1:
            raise no_rule(node, self._key(node), " of several values that depend on the images (attention)")
        return self._average(node)

    def _linear(self, node: fx.Node, linear: fx.Node) -> Step:
        key = self._key(linear)
        if key in kinds.CONTRACTION:
            (x,) = self._inputs(linear)
        elif key is torch.addmm:
            x = cast(fx.Node, argument(linear, 1, "mat1"))
            if self._inputs(linear) != [x] or {"beta", "alpha"} & {*linear.kwargs}:
                raise no_rule(linear, key, " with several values that depend on the images, or with factors")
        else:
            x = self._only_input(linear)
        convolves = key in kinds.CONVOLUTION or key in kinds.TRANSPOSED
        rule = self.composite.convolution if convolves else self.composite.linear
        if self.composite.first is not None and x not in self.below_linear:
            rule = self.composite.first
        rule = self._own_rule(linear) or rule
        return Step(node, (x,), rule, linear, self.signs.nonnegative(x))

    def _batch_norm(self, node: fx.Node) -> Step:
        x = self._only_input(node)
        if self._mixes_images(node):
            raise AdvfoolError(
                f"LRP needs batch norm in eval mode, with running statistics, and '{node.name}' is not: "
                "call model.eval() first."
            )
        uses = [user for user in x.users if user in self.dependent]
        if self.composite.batchnorm == "fold" and x in self.linear and x in self.nodes and len(uses) == 1:
            return self._linear(node, x)
        return self._pass(node)

    def _mixes_images(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            module = self.modules[target_name(node)]
            trains = module.training and isinstance(module, nn.modules.batchnorm._BatchNorm)
            return module.running_var is None or trains
        return bool(layer_arguments(node, BATCH_NORM_NAMES).get("training"))

    def _instance_norm(self, node: fx.Node) -> Step:
        if node.op == "call_module":
            module = self.modules[target_name(node)]
            constant = module.running_var is not None and not module.training
        else:
            use_input_stats = argument(node, 5, "use_input_stats")
            constant = use_input_stats is not None and not use_input_stats
        return self._batch_norm(node) if constant else self._pass(node)

    def _below_linear(self) -> set[fx.Node]:
        found: set[fx.Node] = set()
        for node in self.trace.graph.nodes:
            if any(n in found or n in self.linear for n in node.all_input_nodes):
                found.add(node)
        return found | self.linear

    def _key(self, node: fx.Node) -> Key:
        return key_of(node, self.modules)


PLANS: Mapping[Kind, Callable[[Planner, fx.Node], Step]] = {
    **dict.fromkeys((kinds.LAYER_NORM, kinds.TRANSFORM, kinds.RELU, kinds.ACTIVATION), Planner._pass),
    kinds.UNCHANGED: Planner._pass,
    kinds.CONTRACTION: Planner._contraction,
    kinds.BATCH_NORM: Planner._batch_norm,
    kinds.INSTANCE_NORM: Planner._instance_norm,
    kinds.GATE: Planner._gate,
    kinds.GATED_HALF: Planner._gated_half,
    **dict.fromkeys(kinds.ARITHMETIC, Planner._arithmetic),
    kinds.AVERAGE: Planner._average,
    kinds.POWER: Planner._power,
    kinds.BLEND: Planner._blend,
    kinds.RESAMPLING: Planner._resampling,
    **dict.fromkeys((kinds.MAXIMUM, kinds.REORDER, kinds.CHOICE), Planner._route),
    kinds.CONCATENATION: Planner._concatenation,
}
