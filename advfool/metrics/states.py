"""The metrics as torchmetrics classes, with states that add up over batches and processes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torchmetrics import Metric

from advfool.metrics import functional
from advfool.metrics.functional.flipping import PixelRange

_NORMAL_95 = 1.96  # standard deviations


class FoolingSuccessRate(Metric):
    """FSR over all updates: see `fooling_success_rate`."""

    full_state_update = False
    higher_is_better = True

    def __init__(self, interval: tuple[float, float], **kwargs) -> None:
        super().__init__(**kwargs)
        self.interval = tuple(interval)
        self.add_state("fooled", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, test_loss: Float[Tensor, "*n"]) -> None:
        self.fooled += functional.is_fooled(test_loss, self.interval).sum()
        self.total += test_loss.numel()

    def compute(self) -> Float[Tensor, ""]:
        return self.fooled / self.total


class MeanOfImages(Metric, ABC):
    """Abstract: the mean of one value for each image, NaN where there is none.

    Values that are NaN are left out and counted in the state `undefined`.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("defined", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("undefined", torch.tensor(0), dist_reduce_fx="sum")

    @abstractmethod
    def _values(self, *args, **kwargs) -> Shaped[Tensor, "n"]:
        """One value for each image, from what the metric's function is given."""

    def update(self, *args, **kwargs) -> None:
        """Takes the function's own arguments."""
        values = self._values(*args, **kwargs).double()
        missing = values.isnan()
        self.total += values.masked_fill(missing, 0).sum()
        self.defined += (~missing).sum()
        self.undefined += missing.sum()

    def compute(self) -> Float[Tensor, ""]:
        return self.total / self.defined


class SpearmanCorrelation(MeanOfImages):
    """Mean rank correlation of heatmaps over all updates: see `spearman`."""

    def _values(self, a: Tensor, b: Tensor) -> Float[Tensor, "n"]:
        return functional.spearman(a, b)


class PearsonCorrelation(MeanOfImages):
    """Mean correlation of heatmaps over all updates: see `pearson`."""

    def _values(self, a: Tensor, b: Tensor) -> Float[Tensor, "n"]:
        return functional.pearson(a, b)


class CosineSimilarity(MeanOfImages):
    """Mean cosine of heatmaps over all updates: see `cosine`."""

    def _values(self, a: Tensor, b: Tensor) -> Float[Tensor, "n"]:
        return functional.cosine(a, b)


class SSIM(MeanOfImages):
    """Mean structural similarity of heatmaps over all updates: see `ssim`."""

    def __init__(self, data_range: float = 1.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.data_range = data_range

    def _values(self, a: Tensor, b: Tensor) -> Float[Tensor, "n"]:
        return functional.ssim(a, b, self.data_range)


class TopKIntersection(MeanOfImages):
    """Mean share of common top positions of heatmaps over all updates: see `topk_intersection`."""

    def __init__(self, percent: float = 10.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.percent = percent

    def _values(self, a: Tensor, b: Tensor) -> Float[Tensor, "n"]:
        return functional.topk_intersection(a, b, self.percent)


class PredictionAgreement(MeanOfImages):
    """Share of images that both networks put into the same class, from logits: see `prediction_agreement`."""

    def _values(self, original_logits: Tensor, manipulated_logits: Tensor) -> Bool[Tensor, "n"]:
        return functional.prediction_agreement(original_logits, manipulated_logits)


class KLDivergence(MeanOfImages):
    """Mean Kullback-Leibler divergence in nats, from logits: see `kl_divergence`."""

    higher_is_better = False

    def _values(self, original_logits: Tensor, manipulated_logits: Tensor) -> Float[Tensor, "n"]:
        return functional.kl_divergence(original_logits, manipulated_logits)


class TopKAccuracy(MeanOfImages):
    """Share of images whose label is among the k largest logits: see `top_k_correct`."""

    def __init__(self, k: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.k = k

    def _values(self, logits: Tensor, labels: Tensor) -> Bool[Tensor, "n"]:
        return functional.top_k_correct(logits, labels, self.k)


class PointingGame(MeanOfImages):
    """Share of heatmaps whose maximum lies in the object's box: see `points_into`."""

    def _values(self, heatmap: Tensor, box: Tensor, size: tuple[int, int]) -> Float[Tensor, "n"]:
        return functional.points_into(heatmap, box, size)


class RelevanceMass(MeanOfImages):
    """Mean share of the positive relevance in the object's box: see `mass_inside`."""

    def _values(self, heatmap: Tensor, box: Tensor, size: tuple[int, int]) -> Float[Tensor, "n"]:
        return functional.mass_inside(heatmap, box, size)


class AOPC(Metric):
    """AOPC over all updates, with its mean curve and an interval: see `aopc`, also for the settings.

    `curve` and `interval` hold for the images of all processes, as `compute` does: call them on every process.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(
        self,
        steps: int = 100,
        region: int = 9,
        order: str = "most_relevant_first",
        replacement: str = "uniform",
        seed: int = 0,
        pixel_range: PixelRange | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "steps": steps,
            "region": region,
            "order": order,
            "replacement": replacement,
            "seed": seed,
            "pixel_range": pixel_range,
        }
        self.add_state("curves", torch.zeros(steps + 1, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("squares", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        model: nn.Module,
        images: Float[Tensor, "n c H W"],
        targets: Int[Tensor, "_"],
        heatmaps: Float[Tensor, "_ h w"],
        index: Int[Tensor, "_"] | None = None,
    ) -> None:
        curves = functional.aopc(model, images, targets, heatmaps, index=index, **self.settings)
        self.curves += curves.sum(dim=0)
        self.squares += functional.aopc_value(curves).square().sum()
        self.count += len(curves)

    def compute(self) -> Float[Tensor, ""]:
        return (self.curves / self.count).mean()

    def curve(self) -> Float[Tensor, "k"]:
        """The mean curve: `f(x_0) - f(x_k)` for k = 0 to `steps`."""
        with self._of_all_processes():
            return self.curves / self.count

    def interval(self) -> Float[Tensor, "2"]:
        """(low, high): the normal 95 % interval of the AOPC over the images; NaN for fewer than two."""
        with self._of_all_processes():
            mean = (self.curves / self.count).mean()
            variance = ((self.squares - self.count * mean**2) / (self.count - 1)).clamp(min=0)
            margin = _NORMAL_95 * (variance / self.count).sqrt()
            margin = torch.where(self.count < 2, torch.nan, margin)
            return torch.stack([mean - margin, mean + margin])

    @contextmanager
    def _of_all_processes(self) -> Iterator[None]:
        if self._is_synced:
            yield
            return
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            yield
