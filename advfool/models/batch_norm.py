"""Batch norm's running statistics, estimated anew on given images."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from advfool.utilities.modules import copied


def batch_norms(network: nn.Module) -> Iterator[tuple[str, nn.modules.batchnorm._BatchNorm]]:
    """Yield the batch norms with running statistics, by name."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            yield name, module


@torch.no_grad()
def re_estimated(network: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Copy a network and estimate its batch norm statistics anew, as means over the batches.

    Everything else stays as it is; dropout is off meanwhile.

    Args:
        network: the network; it is left as it is.
        batches: images as the network takes them, on its device.

    Returns:
        the copy, in eval mode.
    """
    other = copied(network).eval()
    norms = [(module, module.momentum) for _, module in batch_norms(other)]
    for module, _ in norms:
        module.reset_running_stats()
        module.momentum = None  # a cumulative mean
        module.train()
    for images in batches:
        other(images)
    for module, momentum in norms:
        module.momentum = momentum
    return other.eval()
