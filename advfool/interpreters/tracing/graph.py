"""A network's forward pass as a torch.fx graph, and a run of it that keeps values."""

import copy
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, fx, nn

from advfool.interpreters.tracing.sites import Site


@dataclass(frozen=True, eq=False)
class Trace:
    """The graph of a network, the modules it calls by name, and the nodes whose values pass each site.

    The tensors of a list (DenseNet) appear as aliases made where the site is: what consumed them before the site
    is not behind it.
    """

    graph: fx.Graph
    modules: dict[str, nn.Module]
    sites: dict[Site, tuple[fx.Node, ...]]
    overwriting: frozenset[fx.Node]  # nodes that overwrote their first input, of which there is no view
    plans: dict = field(default_factory=dict)  # what walks work out once for this graph

    @property
    def logits(self) -> fx.Node:
        """The node whose value the network returns."""
        return next(node for node in reversed(self.graph.nodes) if node.op == "output").args[0]

    @cached_property
    def last_uses(self) -> dict[fx.Node, list[fx.Node]]:
        """By node, the nodes whose values nobody needs after it."""
        last: dict[fx.Node, list[fx.Node]] = {}
        seen: set[fx.Node] = set()
        for node in reversed(self.graph.nodes):
            for used in node.all_input_nodes:
                if used not in seen:
                    seen.add(used)
                    last.setdefault(node, []).append(used)
        return last

    def after(self, site: Site) -> list[fx.Node]:
        """The nodes through which the site influences the logits, in order, without the site's own."""
        start, reached = set(self.sites[site]), set()
        for node in self.graph.nodes:
            if any(n in start or n in reached for n in node.all_input_nodes):
                reached.add(node)
        used, found = {self.logits}, []
        for node in reversed(self.graph.nodes):
            if node in used and node in reached and node not in start:
                found.append(node)
                used.update(node.all_input_nodes)
        return found[::-1]


def alias(tensor: Tensor) -> Tensor:
    """The same values as a tensor of its own."""
    return tensor.view_as(tensor)


class Runner(nn.Module):
    """Runs a trace on the network's present parameters.

    `values` holds, after a run, those of the nodes in `keep` and in `seen`; of the latter each is handed to `see`
    before it is used.
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
            if node in kept:
                self.values[node] = value
            for dead in self.trace.last_uses.get(node, ()):
                del values[dead]
        return values[self.trace.logits]


def execute(
    node: fx.Node,
    values: Mapping[fx.Node, Any],
    network: nn.Module,
    modules: dict[str, nn.Module],
    in_place: bool = False,
):
    """The value of a node, from the values of its inputs; `in_place` lets it overwrite the first of them."""
    if "constant" in node.meta:
        return node.meta["constant"]
    if node.op == "get_attr":
        return operator.attrgetter(node.target)(network)
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    if node.op == "call_module":
        module = modules[node.target]
        return (module if in_place else _out_of_place(module))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return (operator.iadd if in_place else node.target)(*args, **kwargs)


def _out_of_place(module: nn.Module) -> nn.Module:
    """The module, or a twin of it with the same parameters that does not overwrite its input."""
    if getattr(module, "inplace", False):
        module = copy.copy(module)
        module.inplace = False
    return module
