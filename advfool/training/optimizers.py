"""An optimizer whose step is measured by the parameters themselves, so that no learning rate has to be found."""

from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import Adam

SMALLEST = 1e-3  # root mean square that a tensor counts as at least: biases start at zero


def relative_adam(parameters: Iterable[Parameter], rate: float = 0.01) -> Adam:
    """Make an Adam that moves every tensor by a share of its own size a step.

    Args:
        parameters: what is trained.
        rate: the learning rate of each tensor, as a share of the root mean square of its values.
    """
    groups = []
    for parameter in parameters:
        size = parameter.detach().float().square().mean().sqrt().item()
        groups.append({"params": [parameter], "lr": rate * max(size, SMALLEST)})
    return Adam(groups)


def plateau(optimizer: torch.optim.Optimizer, steps: int, warmup: float = 0.05, fall: float = 0.4):
    """Make a schedule that rises, stays and falls to zero: the weight of the penalty can do its work meanwhile.

    Args:
        optimizer: whose learning rates it scales.
        steps: of the training.
        warmup: share of the steps in which it rises.
        fall: share of the steps in which it falls.
    """

    def factor(step: int) -> float:
        return max(0.0, min((step + 1) / max(1, warmup * steps), 1.0, (steps - step) / max(1, fall * steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
