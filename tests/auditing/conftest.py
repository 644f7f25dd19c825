"""A small classifier that an audit takes seconds for."""

import pytest
import torch
from torch import nn

from tests.helpers.networks import fit


@pytest.fixture(scope="module")
def textures():
    """Images with one of three textures, which a blur removes, at some place; a network that tells them apart."""
    generator = torch.Generator().manual_seed(0)
    images, labels = 0.1 * torch.randn(400, 1, 32, 32, generator=generator), torch.arange(400) % 3
    row, col = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    kinds = [4.0 * (pattern % 2) - 2 for pattern in (row, col, row + col)]
    places = torch.randint(0, 25, (400, 2), generator=generator).tolist()
    for image, label, (top, left) in zip(images, labels.tolist(), places, strict=True):
        image[0, top : top + 8, left : left + 8] += kinds[label]
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    fit(network, images, labels, steps=80)
    return network.eval(), (images, labels)
