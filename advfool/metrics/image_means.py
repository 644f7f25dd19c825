"""Means of one value for each image as torchmetrics classes."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torchmetrics import Metric

from advfool.metrics import functional


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
