import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from advfool.training.mixing import mix_images
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


def test_mixing_blends_the_first_share_only():
    images = torch.rand(16, 3, 8, 8)
    before = images.clone()
    mixed = mix_images(images, 0.5)
    assert torch.equal(images, before)
    assert torch.equal(mixed[8:], images[8:])
    changed = [not torch.equal(mixed[i], images[i]) for i in range(8)]
    assert sum(changed) >= 6  # an image may be its own partner
    for i in range(4, 8):  # cutmix: every pixel is one of the batch's at the same place, a patch at most is foreign
        foreign = (mixed[i] != images[i]).any(dim=0)
        assert foreign.sum() <= 16
        assert (mixed[i] == images).all(dim=1).any(dim=0).all()
    torch.manual_seed(1)
    first = mix_images(images, 0.5)
    torch.manual_seed(1)
    assert torch.equal(first, mix_images(images, 0.5))
    assert mix_images(images, 0.0) is images
