"""Heatmaps of an image do not depend on the other images of its batch, nor on how many there are."""

import pytest
import torch

from advfool.interpreters import Captum, SmoothGrad, Zennit
from tests.helpers.interpreters import INTERPRETERS
from tests.helpers.networks import build_tiny

ALL = INTERPRETERS | {
    "smoothgrad_relative": lambda layer: SmoothGrad(samples=3, relative=True),
    "captum": lambda layer: Captum("IntegratedGradients", call={"n_steps": 4}),
    "zennit": lambda layer: Zennit("EpsilonPlus"),
}


@pytest.fixture(scope="module", params=["resnet_tiny", "vgg_tiny"])
def network_and_layer(request):
    return build_tiny(request.param)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALL)
def test_heatmaps_do_not_depend_on_the_batch(network_and_layer, name):
    network, layer = network_and_layer
    interp = ALL[name](layer)
    images, classes = torch.randn(8, 3, 56, 56, dtype=torch.float64), torch.arange(8)
    images[5] = images[2]  # the same image twice has the same map
    with torch.no_grad():
        whole = interp(network, images, classes)
        for size in (1, 3):
            parts = zip(images.split(size), classes.split(size), strict=True)
            found = torch.cat([interp(network, *part) for part in parts])
            torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)
        turned = interp(network, images.flip(0), classes.flip(0)).flip(0)
    torch.testing.assert_close(turned, whole, rtol=0, atol=1e-6)
