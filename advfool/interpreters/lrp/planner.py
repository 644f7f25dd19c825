"""Plan the walk from the logits back to a site: one rule for each node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch.nn.functional as F
from torch import fx, nn
from torch.fx.node import map_arg

from advfool.interpreters.lrp.composites import Composite
from advfool.interpreters.lrp.operations import (
    ACTIVATIONS,
    AVERAGES,
    BATCH_NORM,
    CONCATENATIONS,
    CONVOLUTION,
    GATES,
    LAYER_NORMS,
    LINEAR,
    PRODUCTS,
    RELUS,
    ROUTES,
    SCALINGS,
    SHIFTS,
    SUMS,
    UNCHANGED,
    Key,
    is_number,
    key_of,
    no_rule,
)
from advfool.interpreters.lrp.rules import Gate, Pass, Route, Rule, Split
from advfool.interpreters.tracing.graph import Trace, target_name
from advfool.interpreters.tracing.sites import Site
from advfool.utilities.errors import AdvfoolError

CONVOLUTION_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
BATCH_NORM_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
SIGN_KEEPING = AVERAGES | ROUTES | CONCATENATIONS | UNCHANGED | SUMS


@dataclass(frozen=True)
class Step:
    """Share the relevance of one node among its inputs.

    Args:
        node: the node whose relevance is shared.
        inputs: the nodes that receive it.
        rule: says how.
        linear: the convolution or linear node, where there is one; `node` is its batch norm if the two are folded.
        nonnegative: whether the value of the first input cannot be negative.
    """

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    rule: Rule
    linear: fx.Node | None = None
    nonnegative: bool = False

    @property
    def reads(self) -> set[fx.Node]:
        """The nodes whose values the step needs."""
        found: set[fx.Node] = set()
        if self.rule.reads_input:
            for node in {self.node, self.linear or self.node}:
                found.update(node.all_input_nodes)
            if self.linear is not None and self.linear is not self.node:
                found.discard(self.linear)
        if self.rule.reads_output:
            found.add(self.node)
        return found


def layer_arguments(
    node: fx.Node, names: tuple[str, ...], values: Mapping[fx.Node, Any] | None = None
) -> dict[str, Any]:
    """Return the arguments of a functional layer by name, without its input.

    Args:
        node: the layer's node.
        names: the names of its positional arguments.
        values: the values of nodes, which then replace the nodes among the arguments.
    """
    bound = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    bound.pop("input", None)
    return bound if values is None else cast(dict[str, Any], map_arg(bound, values.__getitem__))


def _operands(node: fx.Node) -> list[fx.Node]:
    """Return the node's inputs; an input that appears twice (`x * x`) is listed twice."""
    found: list[fx.Node] = []
    map_arg((node.args, node.kwargs), found.append)
    return found


def _first_input(node: fx.Node) -> fx.Node:
    found = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(found, fx.Node)
    return found


def _pads_with(node: fx.Node) -> bool:
    """Return whether the node pads with a value that is given as an argument."""
    return node.target is F.pad and (len(node.args) > 3 or node.kwargs.get("value") is not None)


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
        self.linear = {node for node in trace.graph.nodes if self._key(node) in CONVOLUTION | LINEAR}
        self.below_linear = self._below_linear()

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the walk, from the logits back.

        Raises:
            AdvfoolError: a node on the way has no rule.
        """
        receiving = {self.trace.logits}  # gates and numbers receive no relevance and need no rule
        found: list[Step] = []
        for node in reversed(self.nodes):
            if node in receiving:
                found.append(self._step(node))
                receiving.update(found[-1].inputs)
        return tuple(found)

    def _step(self, node: fx.Node) -> Step:
        key = self._key(node)
        inputs = tuple(n for n in _operands(node) if n.op != "get_attr" and not is_number(n))
        if (rule := self._own_rule(node)) and node not in self.linear:
            return Step(node, inputs, rule)
        if key in BATCH_NORM:
            return self._batch_norm(node)
        if node in self.linear:
            return self._linear(node, node)
        if key in SUMS and len(inputs) > 1:
            weighted = "alpha" in node.kwargs  # torch.add(a, b, alpha=2)
            return Step(node, inputs, self.composite.average if weighted else self.composite.sum)
        if key in SCALINGS and len(inputs) > 1:
            return Step(node, self._gated(node, key, inputs), Gate())
        if key in GATES:
            raise no_rule(node, key, " outside a gate (a product of a sigmoid with what it gates)")
        if key in SUMS | SCALINGS | SHIFTS and len(inputs) == 1:
            if key not in SUMS | PRODUCTS and node.args[:1] != inputs:
                raise no_rule(node, key, " of a number and a value")
            return Step(node, inputs, Pass())
        if key in ACTIVATIONS | UNCHANGED | LAYER_NORMS:
            return Step(node, inputs[:1], Pass())
        if key in AVERAGES:
            return Step(node, inputs, self.composite.average)
        if key in CONCATENATIONS:
            return self._concatenation(node)
        if key in ROUTES:
            return Step(node, inputs, Route())
        raise no_rule(node, key)

    def _own_rule(self, node: fx.Node) -> Rule | None:
        """Return the node's rule in `rules`; that of a subclass precedes that of its torch class."""
        own = self.extra.get(type(self.modules[target_name(node)])) if node.op == "call_module" else None
        return own or self.extra.get(self._key(node))

    def _concatenation(self, node: fx.Node) -> Step:
        parts = node.args[0] if node.args else node.kwargs["tensors"]
        if isinstance(parts, fx.Node):  # torch.cat(x.chunk(2))
            return Step(node, (parts,), Route())
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        return Step(node, cast(tuple[fx.Node, ...], tuple(cast(Sequence[Any], parts))), Split(cast(int, dim)))

    def _linear(self, node: fx.Node, linear: fx.Node) -> Step:
        x = _first_input(linear)
        rule = self.composite.convolution if self._key(linear) in CONVOLUTION else self.composite.linear
        if self.composite.first is not None and x not in self.below_linear:
            rule = self.composite.first
        rule = self._own_rule(linear) or rule
        return Step(node, (x,), rule, linear, self._nonnegative(x))

    def _batch_norm(self, node: fx.Node) -> Step:
        x = _first_input(node)
        if self._mixes_images(node):
            raise AdvfoolError(
                f"LRP needs batch norm in eval mode, with running statistics, and '{node.name}' is not: "
                "call model.eval() first."
            )
        foldable = x in self.linear and x in self.nodes and len(x.users) == 1
        if self.composite.batchnorm == "fold" and foldable:
            return self._linear(node, x)
        return Step(node, (x,), Pass())

    def _mixes_images(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            module = self.modules[target_name(node)]
            trains = module.training and isinstance(module, nn.modules.batchnorm._BatchNorm)
            return module.running_var is None or trains
        return bool(layer_arguments(node, BATCH_NORM_NAMES).get("training"))

    def _gated(self, node: fx.Node, key: Key, inputs: tuple[fx.Node, ...]) -> tuple[fx.Node, ...]:
        signals = [n for n in inputs if not self._is_gate(n)]
        if len(signals) != 1 or len(inputs) != 2:
            raise no_rule(node, key, " of two values of which neither, or both, come from a sigmoid")
        return tuple(signals)

    def _is_gate(self, node: fx.Node) -> bool:
        while self._key(node) in ROUTES | UNCHANGED and len(node.all_input_nodes) == 1:
            node = node.all_input_nodes[0]
        return self._key(node) in GATES

    def _nonnegative(self, node: fx.Node) -> bool:
        """Return whether the node's value is nonnegative for all images and weights."""
        key = self._key(node)
        if key in RELUS | GATES:
            return True
        if key is nn.Hardtanh:
            module = self.modules[target_name(node)]
            return isinstance(module, nn.Hardtanh) and module.min_val >= 0
        inputs = [n for n in _operands(node) if not is_number(n)]
        if key in SUMS and (len(inputs) < 2 or "alpha" in node.kwargs):
            return False  # a number may be negative
        if key not in SIGN_KEEPING or self._own_rule(node) or _pads_with(node):
            return False
        return bool(inputs) and all(self._nonnegative(n) for n in inputs)

    def _below_linear(self) -> set[fx.Node]:
        found: set[fx.Node] = set()
        for node in self.trace.graph.nodes:
            if any(n in found or n in self.linear for n in node.all_input_nodes):
                found.add(node)
        return found | self.linear

    def _key(self, node: fx.Node) -> Key:
        return key_of(node, self.modules)
