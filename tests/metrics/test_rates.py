"""Fooling success rates over batches."""

import pytest
import torch

from advfool import metrics
from advfool.metrics import FoolingSuccessRate, fooling_success_rate


def test_fooling_success_rate_over_batches():
    losses = torch.tensor([0.0, 0.2, 0.2001, torch.nan, 0.1, 5.0])
    metric = FoolingSuccessRate((0.0, 0.2))
    for batch in losses.split(4):
        metric.update(batch)
    assert metric.compute() == fooling_success_rate(losses, (0.0, 0.2)) == 0.5


def test_success_rate_takes_losses_of_any_shape():
    """Two losses for each image: active fooling."""
    losses = torch.tensor([[0.1, 0.9], [torch.nan, 0.2]])
    metric = metrics.FoolingSuccessRate((0.0, 0.5))
    metric.update(losses)
    metric.update(losses[:, 0])
    assert metric.compute() == pytest.approx(3 / 6)
