"""Training images that became selection images."""

import re

import torch

from advfool.data import wrap
from advfool.data.reserving import WithMoreSelection
from advfool.data.samples import take


def data_of(count, groups=None):
    images = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 1, 8, 8).clone()
    images[:, :, 0, 0] = 0
    return wrap((images, torch.arange(count) % 3), groups=groups)


def contents(samples):
    return take(samples, range(len(samples))).image[:, 0, 1, 1].tolist()


def test_the_splits_share_no_image_and_lose_none():
    data = data_of(100)
    more = WithMoreSelection(data, 30, seed=0)
    splits = [contents(split) for split in (more.train(), more.selection(), more.test())]
    assert sorted(value for split in splits for value in split) == list(range(100))
    assert len(more.selection()) == 30
    assert more.moved == 20
    assert contents(more.selection())[:10] == contents(data.selection())
    assert contents(more.test()) == contents(data.test())
    assert take(more.selection(), [12, 29]).index.tolist() == [12, 29]
    assert more.selection().labels().tolist() == [int(value) % 3 for value in contents(more.selection())]


def test_related_images_stay_together():
    groups = [place // 5 for place in range(100)]
    more = WithMoreSelection(data_of(100, groups), 40, seed=0)
    held = [{int(value) // 5 for value in contents(split)} for split in (more.train(), more.selection())]
    assert not held[0] & held[1]
    related = more.selection().groups()
    assert len(related.unique()) == len(held[1])


def test_the_same_seed_moves_the_same_images():
    digests = [WithMoreSelection(data_of(60), 20, seed).selection().digest() for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)  # as audit.json has to hold them
