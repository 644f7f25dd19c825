"""Find the modules of a network by name, copy it, and run it in eval mode."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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


def refuse_script(network: nn.Module) -> None:
    """Refuse a network of TorchScript, whose layers can be neither watched nor traced.

    Args:
        network: the network.

    Raises:
        AdvfoolError: it is the result of torch.jit.script, trace, freeze or load.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise AdvfoolError(
            "The network is TorchScript (torch.jit), whose layers cannot be watched. Give the nn.Module from before "
            "torch.jit.script, torch.jit.trace or torch.jit.freeze."
        )


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Run a network in eval mode within a context, and restore the mode of every module.

    Args:
        network: the network.

    Raises:
        AdvfoolError: a batch norm keeps no running statistics, so that images of a batch influence each other even in
            eval mode.
    """
    training = []
    for name, module in network.named_modules():
        if module.training:
            training.append(module)
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


def copied(network: nn.Module) -> nn.Module:
    """Return a deep copy of a network, also of one that keeps computed tensors (the old weight norm).

    Args:
        network: the network.

    Raises:
        AdvfoolError: the network holds something that cannot be copied.
    """
    held = [value for module in network.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in held if not value.is_leaf}
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:  # the copy runs methods of whatever the network holds
        raise AdvfoolError(
            f"{type(network).__name__} cannot be copied ({type(error).__name__}: {error}), and it must be left as it "
            "is. Keep what cannot be copied out of the network, or give it a __deepcopy__ method."
        ) from error
