"""The fooling success rate as a torchmetrics class."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from advfool.metrics import functional
from advfool.utilities.checking import checked
from advfool.utilities.kinds import Interval


class FoolingSuccessRate(Metric):
    """Accumulate the fooling success rate over batches and processes (see `fooling_success_rate`).

    Args:
        interval: lowest and highest test loss of a fooled image, both included.
        kwargs: arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = True

    fooled: Tensor
    total: Tensor

    @checked
    def __init__(self, interval: Interval, **kwargs) -> None:
        super().__init__(**kwargs)
        self.interval = tuple(interval)
        self.add_state("fooled", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, test_loss: Float[Tensor, "*n"]) -> None:
        self.fooled += functional.is_fooled(test_loss, self.interval).sum()
        self.total += test_loss.numel()

    def compute(self) -> Float[Tensor, ""]:
        return self.fooled / self.total
