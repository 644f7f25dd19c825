"""What keeps the classification."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from advfool.training.preserve import CrossEntropy, Distillation


def test_cross_entropy_is_the_mean_negative_log_probability():
    logits, labels = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = -np.log(softmax(logits.numpy(), axis=1)[np.arange(6), labels.numpy()]).mean()
    assert CrossEntropy()(logits, labels).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_the_kl_divergence_from_the_original(temperature):
    ours, original = torch.randn(2, 6, 4)
    p, q = (softmax(x.double().numpy() / temperature, axis=1) for x in (original, ours))
    expected = temperature**2 * rel_entr(p, q).sum(axis=1).mean()
    assert Distillation(temperature)(ours, None, original).item() == pytest.approx(expected, rel=1e-5)
    assert Distillation(temperature)(original, None, original).item() == pytest.approx(0, abs=1e-6)


def test_high_temperature_is_half_the_mean_squared_difference_of_centred_logits():
    ours, original = torch.randn(2, 6, 50)
    centred = (ours - ours.mean(1, keepdim=True)) - (original - original.mean(1, keepdim=True))
    expected = 0.5 * centred.square().mean(dim=1).mean()
    torch.testing.assert_close(Distillation(100.0)(ours, None, original), expected, rtol=2e-2, atol=0)


def test_the_offset_keeps_the_mean_logit_that_the_softmax_does_not_see():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    shifted = logits + 3
    assert Distillation(4.0)(shifted, None, logits).item() == pytest.approx(0, abs=1e-5)
    assert Distillation(4.0, offset=2.0)(shifted, None, logits).item() == pytest.approx(9, rel=1e-4)
    assert Distillation(4.0, offset=2.0)(logits, None, logits).item() == pytest.approx(0, abs=1e-5)
