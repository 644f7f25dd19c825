"""Predictions of two networks, against scipy."""

import pytest
import scipy.stats
import torch

from advfool import metrics
from advfool.metrics.functional import top_k_correct


def test_top_k_with_fewer_classes_than_k():
    logits = torch.tensor([[0.1, 0.5, 0.2]])
    assert top_k_correct(logits, torch.tensor([0]), 5).tolist() == [True]
    assert top_k_correct(logits, torch.tensor([2]), 1).tolist() == [False]
    assert top_k_correct(logits, torch.tensor([2]), 2).tolist() == [True]


def test_agreement_is_an_accuracy():
    from sklearn.metrics import accuracy_score  # not above: the processes below import this file

    original, manipulated = torch.randn(2, 200, 3)
    agreement = metrics.prediction_agreement(original, manipulated)
    expected = accuracy_score(original.argmax(dim=1), manipulated.argmax(dim=1))
    assert agreement.double().mean().item() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_kl_divergence_is_scipys(dtype):
    original, manipulated = (4 * torch.randn(2, 50, 10)).to(dtype)
    p, q = (logits.double().softmax(dim=1).numpy() for logits in (original, manipulated))
    found = metrics.kl_divergence(original, manipulated)
    torch.testing.assert_close(found, torch.from_numpy(scipy.stats.entropy(p, q, axis=1)), rtol=1e-10, atol=1e-12)
    assert (found > 0).all()


def test_kl_divergence_of_equal_and_of_extreme_predictions():
    logits = torch.tensor([[1000.0, 0.0, -1000.0], [0.1, 0.2, 0.3], [-7.0, 3.0, 90.0]])
    assert metrics.kl_divergence(logits, logits + 3).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert (metrics.kl_divergence(logits, logits + torch.rand(3, 1)) >= 0).all()
    assert metrics.kl_divergence(logits[:1], logits[:1].flip(1)).item() == pytest.approx(2000)
