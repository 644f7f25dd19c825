"""A network's forward pass as a torch.fx graph without in-place operations, and a run of it that keeps values."""

import copy
import inspect
import operator
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torchvision.ops import FrozenBatchNorm2d

from advfool.errors import AdvfoolError
from advfool.sites import IMAGES, Site, module_at, not_used, ran_twice

LEAVES = (nn.modules.conv._ConvNd, nn.Linear, FrozenBatchNorm2d)  # kept whole, subclasses from other libraries included
FRESH = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)  # their outputs are tensors of their own
SHARING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.modules.dropout._DropoutNd)  # in eval mode
VIEWS = {
    *("flatten", "view", "view_as", "reshape", "chunk", "split", "unbind", "getitem", "transpose", "permute"),
    *("squeeze", "unsqueeze", "expand", "unflatten", "narrow", "select", "swapaxes", "movedim", "contiguous", "alias"),
    *("dropout", "stochastic_depth"),
}
IN_PLACE_OPERATORS = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


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


_TRACES: weakref.WeakKeyDictionary[nn.Module, tuple[tuple, dict]] = weakref.WeakKeyDictionary()


def trace(network: nn.Module, sites: Collection[Site], leaves: frozenset[type] = frozenset()) -> Trace:
    """The network's graph, with modules of the classes `leaves` kept whole; made once for each network and sites.

    Raises:
        AdvfoolError: torch.fx cannot trace the network, or it does not run a site's module exactly once.
    """
    structure = tuple((id(module), type(module), module.training) for module in network.modules())
    known, traces = _TRACES.get(network, (None, {}))
    if known != structure:
        traces = {}
        _TRACES[network] = (structure, traces)
    key = (frozenset(sites), leaves)
    if key not in traces:
        traces[key] = _trace(network, sites, leaves)
    return traces[key]


def _trace(network: nn.Module, sites: Collection[Site], leaves: frozenset[type]) -> Trace:
    for site in sites:
        module_at(network, site.layer)
    tracer = _SiteTracer(sites, leaves)
    parameters = list(inspect.signature(network.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    own = set(vars(network))
    try:
        graph = tracer.trace(network, concrete_args=defaults or None)
    except AdvfoolError:
        raise
    except Exception as error:  # whatever the network's own code raises on being traced
        raise AdvfoolError(
            f"{type(network).__name__} cannot be traced by torch.fx, which LRP needs: {error} "
            "Gradient-based interpreters (gradcam, simplegrad, ...) work without."
        ) from error
    finally:  # fx leaves the forward pass's own constants on the network
        constants = {name: vars(network).pop(name) for name in set(vars(network)) - own}
    for node in graph.nodes:
        if node.op == "get_attr" and node.target in constants:
            node.meta["constant"] = constants[node.target]
    found = tracer.found
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    found[IMAGES] = (placeholders[0],)
    for node in placeholders[1:]:  # arguments left at their defaults, and fx's assertions of that
        _erase(graph, node)
    if not isinstance(next(iter(reversed(graph.nodes))).args[0], fx.Node):
        raise AdvfoolError(
            f"LRP needs a network that returns its logits alone, but {type(network).__name__} returns several values. "
            "Wrap it in a module that returns the logits."
        )
    if missing := [site for site in sites if site not in found]:
        raise not_used(missing[0].layer)
    modules = {node.target: network.get_submodule(node.target) for node in graph.nodes if node.op == "call_module"}
    overwriting = _remove_in_place(graph, modules)
    return Trace(graph, modules, {site: found[site] for site in {*sites, IMAGES}}, overwriting)


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)


class _Proxy(fx.Proxy):
    """Records `x += y` as what it is; fx takes it for `x + y`."""

    def __iadd__(self, other):
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other):
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other):
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other):
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _SiteTracer(fx.Tracer):
    """Records which nodes pass the sites."""

    proxy_buffer_attributes = True  # what is computed from buffers belongs to the graph, not to the moment

    def __init__(self, sites: Collection[Site], leaves: frozenset[type]) -> None:
        super().__init__(autowrap_functions=(alias,))
        self.wanted, self.leaves = frozenset(sites), leaves
        self.found: dict[Site, tuple[fx.Node, ...]] = {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return (
            isinstance(module, LEAVES) or type(module) in self.leaves or super().is_leaf_module(module, qualified_name)
        )

    def call_module(self, module, forward, args, kwargs):
        layer = self.path_of_module(module)
        value = next(iter([*args, *kwargs.values()]), None)
        self._keep(Site(layer, "input"), value)
        output = super().call_module(module, forward, args, kwargs)
        self._keep(Site(layer, "output"), output)
        return output

    def _keep(self, site: Site, value) -> None:
        if site not in self.wanted:
            return
        if site in self.found:
            raise ran_twice(site.layer)
        if isinstance(value, list):
            value[:] = [self.create_proxy("call_function", alias, (item,), {}) for item in value]
        values = value if isinstance(value, list | tuple) else [value]
        self.found[site] = tuple(item.node for item in values)


def alias(tensor: Tensor) -> Tensor:
    """The same values as a tensor of its own."""
    return tensor.view_as(tensor)


def _remove_in_place(graph: fx.Graph, modules: dict[str, nn.Module]) -> frozenset[fx.Node]:
    """In-place operations become ordinary ones; whoever used the overwritten value later uses the new one.

    Returns:
        those whose overwritten value is a fresh tensor: they may as well run in place if nobody keeps it.
    """
    order = {node: position for position, node in enumerate(graph.nodes)}
    overwriting = set()
    for node in graph.nodes:
        if not _take_out_of_place(node, modules):
            continue
        overwritten = node.all_input_nodes[0]
        if other := _used_through_a_view(node, overwritten, modules, order):
            raise AdvfoolError(
                f"LRP cannot follow '{node.name}', which overwrites values that '{other.name}' shares and that are "
                "used later. Make the operation not in-place, or take a gradient-based interpreter."
            )
        overwritten.replace_all_uses_with(node, lambda user, node=node: order[user] > order[node])
        fresh = overwritten.target is operator.add or (
            overwritten.op == "call_module" and isinstance(modules[overwritten.target], FRESH)
        )
        shared = any(_is_view(user, modules) for user in overwritten.users if user is not node)
        if fresh and not shared and (node.op == "call_module" or node.target is operator.add):
            overwriting.add(node)
    return frozenset(overwriting)


def _used_through_a_view(
    node: fx.Node, overwritten: fx.Node, modules: dict[str, nn.Module], order: dict[fx.Node, int]
) -> fx.Node | None:
    """What else shares the memory that `node` overwrites and is used after it."""
    root = overwritten
    while _is_view(root, modules):
        root = root.all_input_nodes[0]
    group = [root]
    for shared in group:
        group += [user for user in shared.users if user is not node and _is_view(user, modules) and user not in group]
    others = (n for n in group if n is not overwritten)
    return next((n for n in others if any(order[user] > order[node] for user in n.users)), None)


def _is_view(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[node.target], SHARING)
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return node.op in ("call_method", "call_function") and name in VIEWS


def _take_out_of_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Makes an in-place node an ordinary one (modules are run by a twin, see `execute`); whether it was one."""
    if node.op == "call_module":
        return bool(getattr(modules[node.target], "inplace", False))
    if node.op == "call_method":
        in_place = _ends_in_place(node.target)
        node.target = node.target.removesuffix("_") if in_place else node.target
        return in_place
    if node.op != "call_function":
        return False
    if node.target in IN_PLACE_OPERATORS:
        node.target = IN_PLACE_OPERATORS[node.target]
        return True
    name = getattr(node.target, "__name__", "")
    for place in (torch, F):
        if _ends_in_place(name) and hasattr(place, name.removesuffix("_")):
            node.target = getattr(place, name.removesuffix("_"))
            return True
    if inspect.isfunction(node.target) and "inplace" in inspect.signature(node.target).parameters:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
        in_place = bool(bound.arguments.get("inplace"))
        if in_place:
            bound.arguments["inplace"] = False
            node.args, node.kwargs = bound.args, bound.kwargs
        return in_place
    return False


def _ends_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


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
