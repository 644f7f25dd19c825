"""The tiny networks."""

import pytest

from advfool.models import Tiny, find_target_layer
from tests.helpers.networks import TINY


@pytest.mark.parametrize("family", ["vgg", "resnet", "densenet"])
def test_tiny_networks_end_with_a_map_of_at_least_7x7(family):
    network = Tiny(name=family, family=family).create(10).eval()
    layer, layout = find_target_layer(network, (3, 56, 56))

    assert layer == TINY[f"{family}_tiny"][1]
    assert layout == "nchw"
