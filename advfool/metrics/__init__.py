"""Metrics: pure functions in `functional`, the facts about them in `METRICS`, and torchmetrics classes."""

from advfool.metrics.aopc import AOPC
from advfool.metrics.facts import METRICS, Metric, metric
from advfool.metrics.functional import (
    BadMaps,
    aopc,
    aopc_of_images,
    aopc_value,
    bootstrap_interval,
    cosine,
    fooling_success_rate,
    is_fooled,
    kl_divergence,
    mass_inside,
    paired_interval,
    pearson,
    points_into,
    prediction_agreement,
    spearman,
    ssim,
    top_k_correct,
    topk_intersection,
)
from advfool.metrics.image_mean import ImageMean
from advfool.metrics.rates import FoolingSuccessRate

__all__ = [
    "AOPC",
    "METRICS",
    "BadMaps",
    "FoolingSuccessRate",
    "ImageMean",
    "Metric",
    "aopc",
    "aopc_of_images",
    "aopc_value",
    "bootstrap_interval",
    "cosine",
    "fooling_success_rate",
    "is_fooled",
    "kl_divergence",
    "mass_inside",
    "metric",
    "paired_interval",
    "pearson",
    "points_into",
    "prediction_agreement",
    "spearman",
    "ssim",
    "top_k_correct",
    "topk_intersection",
]
