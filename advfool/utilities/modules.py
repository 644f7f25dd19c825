"""Find the modules of a network by name, and run it in eval mode."""

from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Run a network in eval mode within a context, and restore the mode of every module.

    Args:
        network: the network.

    Raises:
        AdvfoolError: a batch norm keeps no running statistics, so that images of a batch influence each other even in
            eval mode.
    """
    training = [module for module in network.modules() if module.training]
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise AdvfoolError(
                f"Batch norm '{name}' keeps no running statistics (track_running_stats=False), so images of a batch "
                "influence each other, also in eval mode, and no heatmap belongs to one image. Expected batch norms "
                "with running statistics; use such ones, or a group norm."
            )
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
