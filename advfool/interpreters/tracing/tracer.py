"""Trace a network's forward pass into a graph without in-place operations."""

import inspect
import operator
import threading
import weakref
from collections.abc import Callable, Collection
from typing import Any

from torch import fx, nn
from torchvision.ops import FrozenBatchNorm2d

from advfool.interpreters.tracing.graph import Trace, alias, target_name
from advfool.interpreters.tracing.in_place import remove_in_place
from advfool.interpreters.tracing.sites import IMAGES, Site, not_used, ran_twice
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import module_at

LEAVES = (nn.modules.conv._ConvNd, nn.Linear, FrozenBatchNorm2d)  # never traced into, nor are their subclasses
_TRACING = threading.RLock()  # torch.fx patches nn.Module for the whole process while it traces
_TRACES: weakref.WeakKeyDictionary[nn.Module, tuple[tuple, dict]] = weakref.WeakKeyDictionary()


def trace(network: nn.Module, sites: Collection[Site], leaves: frozenset[type] = frozenset()) -> Trace:
    """Trace a network; the graph is cached for each network, sites and leaves.

    Args:
        network: the network to trace.
        sites: the activations to find in the graph.
        leaves: module classes that are not traced into.

    Raises:
        AdvfoolError: torch.fx cannot trace the network, or it does not run a site's module exactly once.
    """
    with _TRACING:
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
    except Exception as error:  # the network's own code may raise anything while it is traced
        raise AdvfoolError(
            f"{type(network).__name__} cannot be traced by torch.fx, which LRP needs: {error} "
            "Gradient-based interpreters (gradcam, simplegrad, ...) do not need a trace."
        ) from error
    finally:  # fx stores constants of the forward pass on the network: remove them
        constants = {name: vars(network).pop(name) for name in set(vars(network)) - own}
    for node in graph.nodes:
        if node.op == "get_attr" and node.target in constants:
            node.meta["constant"] = constants[node.target]
    found = tracer.found
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    found[IMAGES] = (placeholders[0],)
    for node in placeholders[1:]:  # arguments at their defaults, and fx's assertions about them
        _erase(graph, node)
    if not isinstance(next(iter(reversed(graph.nodes))).args[0], fx.Node):
        raise AdvfoolError(
            f"LRP needs a network that returns its logits alone, but {type(network).__name__} returns several values. "
            "Wrap it in a module that returns the logits."
        )
    if missing := [site for site in sites if site not in found]:
        raise not_used(missing[0].layer)
    called = {target_name(node) for node in graph.nodes if node.op == "call_module"}
    modules = {name: network.get_submodule(name) for name in called}
    overwriting = remove_in_place(graph, modules)
    return Trace(graph, modules, {site: found[site] for site in {*sites, IMAGES}}, overwriting)


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)


class _Proxy(fx.Proxy):
    """Record `x += y` as an in-place operation; fx alone would record `x + y`."""

    def __iadd__(self, other):
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other):
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other):
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other):
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _SiteTracer(fx.Tracer):
    """Trace a network and record which nodes pass the sites, without disturbing forward passes of other threads."""

    proxy_buffer_attributes = True  # record computations with buffers instead of their present results

    def __init__(self, sites: Collection[Site], leaves: frozenset[type]) -> None:
        super().__init__(autowrap_functions=(alias,))
        self.wanted, self.leaves = frozenset(sites), leaves
        self.found: dict[Site, tuple[fx.Node, ...]] = {}
        self.thread = threading.get_ident()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or type(m) in self.leaves or super().is_leaf_module(m, module_qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        layer = self.path_of_module(m)
        value = next(iter([*args, *kwargs.values()]), None)
        self._keep(Site(layer, "input"), value)
        output = super().call_module(m, forward, args, kwargs)
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
