"""The fooling success rate as a torchmetrics class."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from advfool.metrics import functional


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

    def __init__(self, interval: Sequence[float], **kwargs) -> None:
        super().__init__(**kwargs)
        self.interval = tuple(interval)
        self.add_state("fooled", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, test_loss: Float[Tensor, "*n"]) -> None:
        self.fooled += functional.is_fooled(test_loss, self.interval).sum()
        self.total += test_loss.numel()

    def compute(self) -> Float[Tensor, ""]:
        return self.fooled / self.total
