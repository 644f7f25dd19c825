"""Find the modules of a network by name."""

from torch import nn

from advfool.utilities.errors import AdvfoolError, nearest


def module_at(network: nn.Module, layer: str) -> nn.Module:
    """Return the module of a network by name.

    Args:
        network: the network.
        layer: the module's dotted name; the empty name is the network itself.

    Raises:
        AdvfoolError: there is no such module; the message lists similar names.
    """
    modules = dict(network.named_modules())
    if layer not in modules:
        raise AdvfoolError(
            f"{type(network).__name__} has no layer '{layer}'. Layers of a similar name: "
            f"{nearest(layer, [name for name in modules if name])}."
        )
    return modules[layer]
