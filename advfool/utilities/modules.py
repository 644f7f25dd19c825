"""Modules of a network, found by their names."""

from torch import nn

from advfool.utilities.errors import AdvfoolError, nearest


def module_at(network: nn.Module, layer: str) -> nn.Module:
    """The module of this dotted name.

    Raises:
        AdvfoolError: there is none; the message lists names close to it.
    """
    modules = dict(network.named_modules())
    if layer not in modules:
        raise AdvfoolError(
            f"{type(network).__name__} has no layer '{layer}'. Layers of a similar name: "
            f"{nearest(layer, [name for name in modules if name])}."
        )
    return modules[layer]
