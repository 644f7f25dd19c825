"""Plans the walk from the logits back to a site: one rule for each node."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import fx, nn

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
    is_number,
    key_of,
    no_rule,
)
from advfool.interpreters.lrp.rules import Gate, Pass, Route, Rule, Split
from advfool.interpreters.tracing.graph import Trace
from advfool.interpreters.tracing.sites import Site
from advfool.utilities.errors import AdvfoolError

CONVOLUTION_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
BATCH_NORM_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
SIGN_KEEPING = AVERAGES | ROUTES | CONCATENATIONS | UNCHANGED | SUMS


@dataclass(frozen=True)
class Step:
    """The relevance of `node` is shared among `inputs` by `rule`.

    linear: the convolution or linear node, of which `node` is the batch norm where the two are folded.
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


def layer_arguments(node: fx.Node, names: tuple[str, ...], values: Mapping | None = None) -> dict:
    """The arguments of a functional layer by their names, without its input; nodes by their values, if given."""
    bound = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    bound.pop("input", None)
    return bound if values is None else fx.node.map_arg(bound, values.__getitem__)


def _operands(node: fx.Node) -> list[fx.Node]:
    """The node's inputs, one that appears twice twice (`x * x`)."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return found


def _pads_with(node: fx.Node) -> bool:
    """Whether the node pads with a value of its own."""
    return node.target is F.pad and (len(node.args) > 3 or node.kwargs.get("value") is not None)


class Planner:
    """Gives each node between the site and the logits its rule, or says which one has none."""

    def __init__(self, trace: Trace, site: Site, composite: Composite) -> None:
        self.trace, self.composite = trace, composite
        self.modules = trace.modules
        self.extra = dict(composite.rules)
        self.nodes = trace.after(site)
        self.linear = {node for node in trace.graph.nodes if self._key(node) in CONVOLUTION | LINEAR}
        self.below_linear = self._below_linear()

    def steps(self) -> tuple[Step, ...]:
        receiving = {self.trace.logits}  # gates and numbers receive no relevance and need no rule
        found = []
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
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            parts = node.args[0] if node.args else node.kwargs["tensors"]
            whole = isinstance(parts, fx.Node)  # torch.cat(x.chunk(2))
            return Step(node, (parts,), Route()) if whole else Step(node, tuple(parts), Split(dim))
        if key in ROUTES:
            return Step(node, inputs, Route())
        raise no_rule(node, key)

    def _own_rule(self, node: fx.Node) -> Rule | None:
        """What `rules` says of the node; a class's own rule goes before that of the torch class it is."""
        kind = type(self.modules[node.target]) if node.op == "call_module" else None
        return self.extra.get(kind) or self.extra.get(self._key(node))

    def _linear(self, node: fx.Node, linear: fx.Node) -> Step:
        x = linear.args[0] if linear.args else linear.kwargs["input"]
        rule = self.composite.convolution if self._key(linear) in CONVOLUTION else self.composite.linear
        if self.composite.first is not None and x not in self.below_linear:
            rule = self.composite.first
        rule = self._own_rule(linear) or rule
        return Step(node, (x,), rule, linear, self._nonnegative(x))

    def _batch_norm(self, node: fx.Node) -> Step:
        x = node.args[0] if node.args else node.kwargs["input"]
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
            module = self.modules[node.target]
            trains = module.training and isinstance(module, nn.modules.batchnorm._BatchNorm)
            return module.running_var is None or trains
        return bool(layer_arguments(node, BATCH_NORM_NAMES).get("training"))

    def _gated(self, node: fx.Node, key, inputs: tuple[fx.Node, ...]) -> tuple[fx.Node, ...]:
        signals = [n for n in inputs if not self._is_gate(n)]
        if len(signals) != 1 or len(inputs) != 2:
            raise no_rule(node, key, " of two values of which neither, or both, come from a sigmoid")
        return tuple(signals)

    def _is_gate(self, node: fx.Node) -> bool:
        while self._key(node) in ROUTES | UNCHANGED and len(node.all_input_nodes) == 1:
            node = node.all_input_nodes[0]
        return self._key(node) in GATES

    def _nonnegative(self, node: fx.Node) -> bool:
        """Whether the node's value cannot be negative, whatever the image and the weights."""
        key = self._key(node)
        if key in RELUS | GATES:
            return True
        if key is nn.Hardtanh:
            return self.modules[node.target].min_val >= 0
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

    def _key(self, node: fx.Node):
        return key_of(node, self.modules)
