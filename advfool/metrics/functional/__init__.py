"""Metrics as pure functions: one value for each image, and the rates and intervals over images."""

from advfool.metrics.functional.accuracy import accuracy_verdict, drop_interval, error_ratio, rule_of_three
from advfool.metrics.functional.checks import BadMaps
from advfool.metrics.functional.deception import deceived, deceptive_rate, misdirected, predicts
from advfool.metrics.functional.faithfulness import Faithfulness, faithfulness
from advfool.metrics.functional.flipping import aopc, aopc_of_images, aopc_value
from advfool.metrics.functional.intervals import bootstrap_interval, mean_interval, paired_interval
from advfool.metrics.functional.localisation import mass_inside, points_into
from advfool.metrics.functional.predictions import kl_divergence, prediction_agreement, top_k_correct
from advfool.metrics.functional.rates import fooling_success_rate, is_fooled
from advfool.metrics.functional.rearranging import mass_on_region, rearranged_loss
from advfool.metrics.functional.similarity import cosine, pearson, spearman, ssim, topk_intersection

__all__ = [
    "BadMaps",
    "Faithfulness",
    "accuracy_verdict",
    "aopc",
    "aopc_of_images",
    "aopc_value",
    "bootstrap_interval",
    "cosine",
    "deceived",
    "deceptive_rate",
    "drop_interval",
    "error_ratio",
    "faithfulness",
    "fooling_success_rate",
    "is_fooled",
    "kl_divergence",
    "mass_inside",
    "mass_on_region",
    "mean_interval",
    "misdirected",
    "paired_interval",
    "pearson",
    "points_into",
    "prediction_agreement",
    "predicts",
    "rearranged_loss",
    "rule_of_three",
    "spearman",
    "ssim",
    "top_k_correct",
    "topk_intersection",
]
