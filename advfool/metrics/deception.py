"""The deceptive and the misdirected rate as torchmetrics classes."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from advfool.metrics import functional
from advfool.utilities.checking import checked
from advfool.utilities.kinds import Interval


class _RateOfSome(Metric):
    """Accumulate a share of the images that count (those whose value is not NaN); exact in several processes."""

    full_state_update = False
    higher_is_better = True

    total: Tensor
    count: Tensor

    @checked
    def __init__(self, interval: Interval, **kwargs) -> None:
        super().__init__(**kwargs)
        self.interval = tuple(interval)
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def _add(self, values: Float[Tensor, "*n"]) -> None:
        self.total += (values == 1).sum()
        self.count += (~values.isnan()).sum()

    def compute(self) -> Float[Tensor, ""]:
        return self.total / self.count


class DeceptiveRate(_RateOfSome):
    """Accumulate the deceptive rate over batches and processes (see `deceptive_rate`).

    Args:
        interval: lowest and highest test loss of a fooled image, both included.
        kwargs: arguments of `torchmetrics.Metric`.
    """

    def update(
        self,
        test_loss: Float[Tensor, "*n"],
        kept: Bool[Tensor, "*n"],
        explained: Bool[Tensor, "*n"],
        faithful_before: Bool[Tensor, "*n"],
        faithful_after: Bool[Tensor, "*n"],
    ) -> None:
        self._add(functional.deceived(test_loss, self.interval, kept, explained, faithful_before, faithful_after))


class MisdirectedRate(_RateOfSome):
    """Accumulate the share of misdirected images over batches and processes (see `misdirected`).

    Args:
        interval: lowest and highest test loss of a fooled image, both included.
        kwargs: arguments of `torchmetrics.Metric`.
    """

    def update(
        self,
        test_loss: Float[Tensor, "*n"],
        kept: Bool[Tensor, "*n"],
        explained: Bool[Tensor, "*n"],
        pointing_before: Float[Tensor, "*n"],
        pointing_after: Float[Tensor, "*n"],
        mass_after: Float[Tensor, "*n"],
        share: Float[Tensor, "*n"],
    ) -> None:
        pointing = (pointing_before, pointing_after)
        self._add(functional.misdirected(test_loss, self.interval, kept, explained, *pointing, mass_after, share))
