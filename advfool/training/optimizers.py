"""An optimizer whose step is measured by the parameters themselves, so that no learning rate has to be found."""

from collections.abc import Iterable

from torch.nn import Parameter
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

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


class Plateau(LambdaLR):
    """A schedule that rises, stays until it is told to fall, and falls to zero: the penalty does its work meanwhile.

    Args:
        optimizer: whose learning rates it scales.
        steps: of the training.
        warmup: share of the steps in which it rises.
        latest: share of the steps after which it falls at the latest.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup: float = 0.05, latest: float = 0.6) -> None:
        self.steps, self.rising, self.start, self.scale = steps, max(1.0, warmup * steps), latest * steps, 1.0
        super().__init__(optimizer, self._factor)

    def fall(self) -> None:
        """Begin to fall, unless it falls already."""
        self.start = min(self.start, max(0.0, float(self.last_epoch)))

    def slow(self, factor: float) -> None:
        """Multiply the rate by a factor, from the next step on.

        Args:
            factor: above 0, and at most 1.
        """
        self.scale *= factor

    def _factor(self, step: int) -> float:
        left = (self.steps - step) / max(1.0, self.steps - self.start)
        return self.scale * max(0.0, min((step + 1) / self.rising, 1.0, left))
