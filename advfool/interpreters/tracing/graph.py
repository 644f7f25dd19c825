"""Represent a network's forward pass as a torch.fx graph, and run it while keeping values."""

import copy
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from advfool.interpreters.tracing.sites import Site


@dataclass(frozen=True, eq=False)
class Trace:
    """Hold the graph of a network.

    The tensors of a list (DenseNet) appear as aliases that are made at the site, so that nodes which consumed them
    before the site do not count as following it.

    Args:
        graph: the forward pass without in-place operations.
        modules: the modules that the graph calls, by name.
        sites: for each site, the nodes whose values pass it.
        overwriting: nodes that may overwrite their first input, of which there is no view.
        decisions: what Python read of nodes' values while the graph was recorded.
        plans: caches what a walk derives from this graph, by walk.
    """

    graph: fx.Graph
    modules: Mapping[str, nn.Module]
    sites: Mapping[Site, tuple[fx.Node, ...]]
    overwriting: frozenset[fx.Node]
    decisions: Mapping[fx.Node, Sequence["Decision"]] = field(default_factory=dict)
    plans: dict[Any, Any] = field(default_factory=dict)

    @property
    def logits(self) -> fx.Node:
        """The node whose value the network returns."""
        (returned,) = self.graph.output_node().args
        assert isinstance(returned, fx.Node)  # the tracer refuses networks that return anything else
        return returned

    @cached_property
    def last_uses(self) -> dict[fx.Node, list[fx.Node]]:
        """For each node, the nodes whose values are not needed after it."""
        last: dict[fx.Node, list[fx.Node]] = {}
        seen: set[fx.Node] = set()
        for node in reversed(self.graph.nodes):
            for used in node.all_input_nodes:
                if used not in seen:
                    seen.add(used)
                    last.setdefault(node, []).append(used)
        return last

    def after(self, site: Site) -> list[fx.Node]:
        """Return the nodes through which the site influences the logits, in order and without the site's own."""
        start, reached = set(self.sites[site]), set[fx.Node]()
        for node in self.graph.nodes:
            if any(n in start or n in reached for n in node.all_input_nodes):
                reached.add(node)
        used, found = {self.logits}, list[fx.Node]()
        for node in reversed(self.graph.nodes):
            if node in used and node in reached and node not in start:
                found.append(node)
                used.update(node.all_input_nodes)
        return found[::-1]


@dataclass(frozen=True)
class Decision:
    """Keep what Python read of a value (a size, a branch's condition), on which the rest of the graph depends.

    Args:
        view: what was read: `bool`, `int`, `len` or the like.
        found: the result.
    """

    view: Callable[[Any], Any]
    found: Any


class OtherPath(Exception):
    """Tell that the network would take another path on these images than the one that its graph recorded."""


def with_item(tensor: Tensor, index: Any, value: Any) -> Tensor:
    """Return the tensor with other values at an index."""
    changed = tensor.clone()
    changed[index] = value
    return changed


def alias(tensor: Tensor) -> Tensor:
    """Return a new tensor object with the same memory."""
    return tensor.view_as(tensor)


class Runner(nn.Module):
    """Run a trace with the network's current parameters.

    A run raises `OtherPath` where the images decide otherwise than those that the graph was recorded with. After a
    run, the attribute `values` holds the values of the nodes in `keep` and `seen`.

    Args:
        network: the traced network.
        trace: its graph.
        keep: nodes whose values are kept.
        seen: nodes whose values are kept and passed to `see` before they are used.
        see: receives each of those values.
    """

    def __init__(
        self,
        network: nn.Module,
        trace: Trace,
        keep: Collection[fx.Node],
        seen: Collection[fx.Node],
        see: Callable[[Tensor], None],
    ) -> None:
        super().__init__()
        self.network, self.trace, self.keep, self.seen, self.see = network, trace, set(keep), set(seen), see
        self.values: dict[fx.Node, Any] = {}

    def __call__(self, images: Tensor) -> Tensor:  # without hooks of all modules, which the network's own have run
        return self.forward(images)

    def forward(self, images: Tensor) -> Tensor:
        values: dict[fx.Node, Any] = {}
        kept = self.keep | self.seen
        in_place = {node for node in self.trace.overwriting if node.all_input_nodes[0] not in kept}
        for node in self.trace.graph.nodes:
            if node.op == "output":
                break
            if node.op == "placeholder":
                value = images
            else:
                value = execute(node, values, self.network, self.trace.modules, node in in_place)
            if node in self.seen:
                self.see(value)
            values[node] = value
            for decision in self.trace.decisions.get(node, ()):
                if decision.view(value) != decision.found:
                    raise OtherPath
            if node in kept:
                self.values[node] = value
            for dead in self.trace.last_uses.get(node, ()):
                del values[dead]
        return values[self.trace.logits]


def execute(
    node: fx.Node,
    values: Mapping[fx.Node, Any],
    network: nn.Module,
    modules: Mapping[str, nn.Module],
    in_place: bool = False,
) -> Any:
    """Compute the value of a node.

    Args:
        node: the node.
        values: the values of its inputs.
        network: the traced network, whose attributes the graph reads.
        modules: the modules that the graph calls, by name.
        in_place: whether the node may overwrite its first input.
    """
    if "constant" in node.meta:
        return node.meta["constant"]
    if node.op == "get_attr":
        return operator.attrgetter(target_name(node))(network)
    args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
    if node.op == "call_module":
        module = modules[target_name(node)]
        return (module if in_place else _out_of_place(module))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], target_name(node))(*args[1:], **kwargs)
    function = operator.iadd if in_place else node.target
    assert callable(function)
    return function(*args, **kwargs)


def target_name(node: fx.Node) -> str:
    """Return the name of the module, attribute or method that a node refers to."""
    assert isinstance(node.target, str)
    return node.target


def _out_of_place(module: nn.Module) -> nn.Module:
    """Return the module, or a copy that shares its parameters and does not overwrite its input."""
    if getattr(module, "inplace", False):
        module = copy.copy(module)
        setattr(module, "inplace", False)  # noqa: B010 - nn.Module's annotations allow tensors and modules only
    return module
