"""The mean of any registered metric as a torchmetrics class."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from advfool.metrics.facts import METRICS
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError, nearest


class ImageMean(Metric):
    """Accumulate the mean of a registered metric over images, batches and processes.

    Values that are NaN are left out of the mean and counted in the state `undefined`. `update` takes the arguments of
    the metric's function.

    Args:
        name: name of a metric in `METRICS`.
        settings: further arguments of the metric's function, such as `percent=5` for `topk_intersection`.

    Raises:
        AdvfoolError: there is no such metric.

    >>> mean = ImageMean("topk_intersection", percent=50)
    >>> mean.update(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.1, 0.9]]]))
    >>> mean.compute()
    tensor(1., dtype=torch.float64)
    """

    full_state_update = False

    total: Tensor
    defined: Tensor
    undefined: Tensor

    @checked
    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__()
        if name not in METRICS:
            raise AdvfoolError(f"There is no metric '{name}'. Close to it: {nearest(name, list(METRICS))}.")
        self.facts, self.settings = METRICS[name], settings
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("defined", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("undefined", torch.tensor(0), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool | None:  # pyright: ignore[reportIncompatibleVariableOverride]  # by the metric
        """Whether higher values are better; None if neither is."""
        return None if self.facts.direction is None else self.facts.direction == "higher"

    def update(self, *args: Any, **kwargs: Any) -> None:
        values = self.facts.function(*args, **kwargs, **self.settings).double()
        missing = values.isnan()
        self.total += values.masked_fill(missing, 0).sum()
        self.defined += (~missing).sum()
        self.undefined += missing.sum()

    def compute(self) -> Float[Tensor, ""]:
        return self.total / self.defined
