"""Traces a network's forward pass into a graph without in-place operations."""

import inspect
import operator
import weakref
from collections.abc import Collection

from torch import fx, nn
from torchvision.ops import FrozenBatchNorm2d

from advfool.interpreters.tracing.graph import Trace, alias
from advfool.interpreters.tracing.in_place import remove_in_place
from advfool.interpreters.tracing.sites import IMAGES, Site, not_used, ran_twice
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import module_at

LEAVES = (nn.modules.conv._ConvNd, nn.Linear, FrozenBatchNorm2d)  # kept whole, subclasses from other libraries included
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
    overwriting = remove_in_place(graph, modules)
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
