"""Metrics: pure functions in `functional`, torchmetrics classes over them in `states`."""

from advfool.metrics.functional import fooling_success_rate
from advfool.metrics.states import FoolingSuccessRate

__all__ = ["FoolingSuccessRate", "fooling_success_rate"]
