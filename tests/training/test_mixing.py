"""Blended images."""

import torch

from advfool.training.mixing import mix_images


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
