"""What several tests of comparisons compare."""

import pytest
import torch

from tests.helpers.networks import build_tiny


@pytest.fixture(scope="module")
def networks():
    """Two tiny networks that differ, and their target layer."""
    first, layer = build_tiny("resnet_tiny", torch.float32)
    second, _ = build_tiny("resnet_tiny", torch.float32)
    with torch.no_grad():
        second.fc.weight.add_(0.5 * torch.randn_like(second.fc.weight))
    return first, second, layer
