"""Keep the activation at a site of a network during a forward pass, by hooks."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from advfool.interpreters.tracing.sites import Site, ran_twice
from advfool.utilities.modules import module_at


@contextmanager
def watched(
    network: nn.Module,
    site: Site,
    activations: dict[Site, list[Tensor]],
    see: Callable[[Tensor], None],
    replacement: list[Tensor] | None = None,
) -> Iterator[None]:
    """Keep the activation at a site within a context, as tensors that gradients can be taken with respect to.

    Forward passes of other threads are left alone.

    Args:
        network: the network.
        site: the activation to keep.
        activations: receives the activation's tensors.
        see: is called with each of them before the network uses it.
        replacement: tensors to continue with instead.

    Raises:
        AdvfoolError: the network has no such module, or runs it twice.
    """
    module = module_at(network, site.layer)
    thread = threading.get_ident()

    def keep(value: Any) -> Any:
        if site in activations:
            raise ran_twice(site.layer)
        if isinstance(value, list):
            # The list's tensors depend on each other (DenseNet), but the activation is their concatenation. From
            # here on, all holders of the list use aliases, whose gradients exclude what the network did before.
            value[:] = replacement or [tensor.view_as(tensor) for tensor in value]
        elif replacement:
            value = replacement[0] if isinstance(value, Tensor) else tuple(replacement)
        tensors = list(value) if isinstance(value, list | tuple) else [value]
        for tensor in tensors:
            see(tensor)
        activations[site] = tensors
        return value

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        if threading.get_ident() != thread:
            return None
        name = None if args else next(iter(kwargs))
        value = keep(args[0] if name is None else kwargs[name])
        if not isinstance(value, Tensor):
            return None
        # The module may overwrite its input (an in-place ReLU), so it works on a copy; gradients pass through it.
        return ((value.clone(), *args[1:]), kwargs) if name is None else (args, kwargs | {name: value.clone()})

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if threading.get_ident() != thread:
            return None
        output = keep(output)
        # The next module may overwrite the output (an in-place ReLU), so it works on a copy.
        return output.clone() if isinstance(output, Tensor) else output

    if site.side == "input":
        # Before hooks of the network's own: the site is what the caller passes.
        handle = module.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
