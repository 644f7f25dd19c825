"""Record a network's operations while it runs on images: each recorded value stands beside the real one."""

import operator
import threading
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.fx.proxy import Attribute
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import v2

from advfool.interpreters.tracing.graph import Decision, alias
from advfool.interpreters.tracing.in_place import ends_in_place
from advfool.interpreters.tracing.kinds import computes_as_torch
from advfool.interpreters.tracing.sites import Site, ran_twice
from advfool.interpreters.tracing.structure import global_hooks
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.outputs import logits_of

# Never traced into, nor are their subclasses. Transforms look up the types of their inputs.
LEAVES = (FrozenBatchNorm2d, v2.Transform)
WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
UNGUARDED = {"requires_grad", "is_leaf", "grad_fn", "grad"}  # differ between a trace and a run, and steer nothing
NUMBERS = (int, float, str, torch.Size, torch.dtype, torch.device)
IN_PLACE = {
    "__iadd__": operator.iadd,
    "__isub__": operator.isub,
    "__imul__": operator.imul,
    "__itruediv__": operator.itruediv,
}


class Traced(fx.Proxy):
    """Stand for a value of the forward pass, and know it.

    Where Python needs a number (a branch, a loop, a length), the real one is used and the graph keeps a `Decision`.
    """

    value: Any
    tracer: "SiteTracer"

    def __getattr__(self, k: str) -> Any:
        if "value" not in vars(self):
            raise AttributeError(k)
        value = getattr(self.value, k)
        if callable(value):
            return Attribute(self, k)
        if k in UNGUARDED:
            return value
        found = self.tracer.create_proxy("call_function", getattr, (self, k), {})
        keep = isinstance(value, Tensor | torch.Size) or not isinstance(found, Traced)
        return found if keep else found.decided(_itself)

    def decided(self, view: Callable[[Any], Any]) -> Any:
        """Return what Python reads of the value (`bool`, `int`, `len`, ...), on which the graph then depends."""
        found = view(self.value)
        self.tracer.decisions.setdefault(self.node, []).append(Decision(view, found))
        return found

    def __bool__(self) -> bool:
        return self.decided(bool)

    def __int__(self) -> int:
        return self.decided(int)

    def __float__(self) -> float:
        return self.decided(float)

    def __index__(self) -> int:
        return self.decided(operator.index)

    def __len__(self) -> int:
        return self.decided(len)

    def __iter__(self):
        items = [self.tracer.create_proxy("call_function", operator.getitem, (self, i), {}) for i in range(len(self))]
        return iter(items)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    __hash__ = object.__hash__


def _itself(value: Any) -> Any:
    return value


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method that records `x += y` as an in-place operation; fx alone would record `x + y`."""

    def method(self: Traced, other: Any) -> Any:
        if not isinstance(self.value, Tensor):
            return NotImplemented
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name, _function in IN_PLACE.items():
    setattr(Traced, _name, _in_place(_function))


class Root(nn.Module):
    """Call a network as a whole, with its hooks, and return its logits.

    Modules and parameters have the names that they have in the network.

    Args:
        network: the network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        own = vars(network)
        vars(self).update({name: value for name, value in own.items() if isinstance(value, Tensor)})
        vars(self).update({kind: own[kind] for kind in ("_parameters", "_buffers", "_modules")})
        vars(self)["network"] = network  # not as a module, which would prefix all names

    def forward(self, images: Tensor) -> Tensor:
        """Run the network."""
        network = self.network
        assert isinstance(network, nn.Module)
        return logits_of(network(images), images.shape[0])


class SiteTracer(fx.Tracer):
    """Trace a network while it runs, and record which nodes pass the sites, without disturbing other threads.

    After a trace, `found` has the nodes of each site and `decisions` what the graph depends on.

    Args:
        network: the network to trace.
        images: its input.
        sites: the activations to find.
        leaves: module classes that are not traced into.
        fixed: whether sizes and other numbers are taken as they are, so that the graph fits images of the same size
            only. Some code needs that: a function of C that takes numbers alone cannot be recorded.
    """

    proxy_buffer_attributes = True  # record computations with buffers instead of their present results

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        sites: Collection[Site],
        leaves: frozenset[type],
        fixed: bool = False,
    ) -> None:
        super().__init__(autowrap_functions=(alias,))
        self.network, self.images, self.fixed = network, images, fixed
        self.wanted, self.own_leaves = frozenset(sites), leaves
        self.names: dict[nn.Module, str] = {}
        for name, module in network.named_modules():
            self.names.setdefault(module, name)
        self.found: dict[Site, tuple[fx.Node, ...]] = {}
        self.decisions: dict[fx.Node, list[Decision]] = {}
        self.opened: set[nn.Module] = set()  # modules that are traced into because of their hooks
        self.thread = threading.get_ident()
        self._running = False  # whether an operation is run rather than recorded

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Traced(node, self)

    def create_proxy(self, kind, target, args, kwargs, name=None, type_expr=None, proxy_factory_fn=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Record an operation and run it."""
        if (
            kind == "call_method"
            and not isinstance(args[0], fx.Proxy)
            and (target == "__setitem__" or ends_in_place(str(target)))
        ):
            raise AdvfoolError(
                f"The forward pass writes computed values into a tensor that it made itself ({target}), which LRP "
                "cannot follow: to LRP that tensor is a constant. Make it from another one (x.new_zeros(...), "
                "torch.zeros_like(x)), use torch.cat or torch.stack, or a gradient-based interpreter."
            )
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        values = map_aggregate((tuple(args), dict(kwargs)), _value_of)
        value = vars(proxy)["value"] = self._run(self._value, kind, target, *values)
        proxy.node.meta["number"] = isinstance(value, NUMBERS)
        return proxy.decided(_itself) if self.fixed and isinstance(value, NUMBERS) else proxy

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function without recording what it does."""
        self._running = True
        try:
            return function(*args)
        finally:
            self._running = False

    def _value(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self.images
        if kind == "get_attr":
            return operator.attrgetter(target)(self.network)
        if kind == "call_module":
            return self.network.get_submodule(target)(*args, **kwargs)
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, fx.Proxy):
            return a.node
        if isinstance(a, Tensor) and a not in self.tensor_attrs and not self._registered(a):
            node = self.create_node("get_attr", f"constant{len(self.graph.nodes)}", (), {})
            node.meta["constant"] = a
            return node
        return super().create_arg(a)

    def _registered(self, tensor: Tensor) -> bool:
        return any(tensor is known for known in (*self.network.parameters(), *self.network.buffers()))

    def path_of_module(self, mod: nn.Module) -> str:
        return self.names[mod]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if m is self.network or isinstance(m, v2.Compose):
            return False
        if type(m) in self.own_leaves:
            return True
        if "forward" in vars(m) or m in self.opened or _calls_itself(type(m)):
            return False
        if isinstance(m, nn.modules.conv._ConvNd | nn.Linear):
            return computes_as_torch(type(m))
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._running or threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._running or threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        if inner := WRAPPERS.get(type(m).__name__):
            return getattr(m, inner)(*args, **kwargs)
        if m not in self.names:  # made in the forward pass, or kept in a plain list
            return forward(*args, **kwargs)
        layer = self.names[m]
        self._keep(Site(layer, "input"), next(iter([*args, *kwargs.values()]), None))
        if self.is_leaf_module(m, layer) and self._run(_hooks_change, m, *map_aggregate((args, kwargs), _value_of)):
            self.opened.add(m)
        output = super().call_module(m, forward, args, kwargs)
        self._keep(Site(layer, "output"), output)
        return output

    def _keep(self, site: Site, value: Any) -> None:
        if site not in self.wanted or not site.layer:
            return
        if site in self.found:
            raise ran_twice(site.layer)
        if isinstance(value, list):
            value[:] = [self.create_proxy("call_function", alias, (item,), {}) for item in value]
        values = value if isinstance(value, list | tuple) else [value]
        self.found[site] = tuple(item.node for item in values)


def _calls_itself(kind: type) -> bool:
    """Return whether a module's class does more in a call than torch does."""
    return next(base for base in kind.__mro__ if "__call__" in vars(base)) is not nn.Module


def _value_of(value: Any) -> Any:
    return value.value if isinstance(value, Traced) else value


def _hooks_change(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Run a module and return whether its hooks change its input or output; others only look, or set weights."""
    everywhere = global_hooks("_global_forward_pre_hooks") + global_hooks("_global_forward_hooks")
    if not (module._forward_pre_hooks or module._forward_hooks or everywhere):
        return False
    forward, given, same = module.forward, [*args, *kwargs.values()], []

    def watched(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        present = [*args, *kwargs.values()]
        same.append(_versions(present) == before and all(map(operator.is_, present, given)))
        same.append((output, _versions([output])))
        return output

    before = _versions(given)
    vars(module)["forward"] = watched
    try:
        returned = module(*args, **kwargs)
    finally:
        del vars(module)["forward"]
    unchanged, (output, version) = same
    return not unchanged or returned is not output or _versions([returned]) != version


def _versions(values: list[Any]) -> list[Any]:
    return [value._version if isinstance(value, Tensor) else None for value in values]
