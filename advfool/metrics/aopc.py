"""AOPC as a torchmetrics class."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from advfool.metrics import functional
from advfool.metrics.functional.regions import Order, PixelRange, Replacement
from advfool.utilities.checking import checked
from advfool.utilities.classes import Targets
from advfool.utilities.kinds import Count, Seed, Size


class AOPC(Metric):
    """Accumulate AOPC, its mean curve and its interval over batches and processes.

    `curve` and `interval` are those of the images of all processes, as `compute` is, and must be called on every
    process.

    Args:
        steps: number of regions that are replaced.
        region: side of a region in pixels.
        order: `most_relevant_first`, `least_relevant_first` or `random`.
        replacement: `uniform`, `mean`, `blur` or `zero`; see `aopc`.
        seed: decides all random numbers, together with the image.
        pixel_range: lowest and highest value of the pixels; None for those of each image and channel.
        kwargs: arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = True

    curves: Tensor
    count: Tensor
    values: list[Tensor]
    groups: list[Tensor]

    @checked
    def __init__(
        self,
        steps: Size = 100,
        region: Count = 9,
        order: Order = "most_relevant_first",
        replacement: Replacement = "uniform",
        seed: Seed = 0,
        pixel_range: PixelRange | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.set_dtype(torch.float64)  # also of the lists, where a process saw no image
        self.settings: dict[str, Any] = {
            "steps": steps,
            "region": region,
            "order": order,
            "replacement": replacement,
            "seed": seed,
            "pixel_range": pixel_range,
        }
        self.add_state("curves", torch.zeros(steps + 1, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("values", [], dist_reduce_fx="cat")  # of each image
        self.add_state("groups", [], dist_reduce_fx="cat")  # the cluster of each image, or -1

    def update(
        self,
        model: nn.Module,
        images: Float[Tensor, "n c H W"],
        targets: Targets,
        heatmaps: Float[Tensor, "_ h w"],
        index: Int[Tensor, "_"] | None = None,
        clusters: Int[Tensor, "_"] | None = None,
    ) -> None:
        curves = functional.aopc(model, images, targets, heatmaps, index=index, **self.settings)
        self.curves += curves.sum(dim=0)
        self.count += len(curves)
        self.values.append(functional.aopc_value(curves).double())
        own = torch.full((len(curves),), -1) if clusters is None else clusters
        self.groups.append(own.double().to(curves.device))  # whole numbers

    def compute(self) -> Float[Tensor, ""]:
        return (self.curves / self.count).mean()

    def curve(self) -> Float[Tensor, "k"]:
        """Return the mean curve: `f(x_0) - f(x_k)` for k = 0 to `steps`."""
        with self._of_all_processes():
            return self.curves / self.count

    def interval(self) -> Float[Tensor, "2"]:
        """Return (low, high), the 95 % interval of the AOPC over the images; NaN where no two are independent.

        It is the normal interval or, where `update` was given clusters (a whole number from 0 for each image, the same
        for those that are dependent), that of `mean_interval` by clusters.
        """
        with self._of_all_processes():
            values, groups = (
                dim_zero_cat(state) if len(state) else torch.zeros(0) for state in (self.values, self.groups)
            )
            clusters = None
            if (groups >= 0).any():
                alone = groups < 0
                clusters = groups.long()
                clusters[alone] = -1 - torch.arange(int(alone.sum()), device=clusters.device)
            found = functional.mean_interval(values, clusters)
        return torch.tensor(found or (torch.nan, torch.nan), dtype=torch.float64)

    @contextmanager
    def _of_all_processes(self) -> Iterator[None]:
        if self._is_synced:
            yield
            return
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            yield
