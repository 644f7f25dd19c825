"""The layer that a heatmap is taken at, where none is named."""

import pytest
import torch
import torchvision
from torch import nn

from advfool.data import InputFormat
from advfool.models import Torchvision, find_target_layer
from advfool.utilities.errors import AdvfoolError

IMAGENET = InputFormat(224, 256, (0.5,) * 3, (0.5,) * 3)


ALL = torchvision.models.list_models(module=torchvision.models)


EXPECTED_LAYERS = {
    "vgg19": "features.34",
    "resnet50": "layer4.2",
    "densenet121": "features.denseblock4.denselayer16",
    "mobilenet_v2": "features.18.0",
    "alexnet": "features.10",
    "googlenet": "inception5b",
    "convnext_tiny": "features.7.2",
    "vit_b_32": "encoder.layers.encoder_layer_11",
}


@pytest.mark.parametrize(("arch", "layer"), EXPECTED_LAYERS.items())
def test_default_target_layer(arch, layer):
    network = Torchvision(name=arch, arch=arch).create(10).eval()
    assert find_target_layer(network, IMAGENET.shape)[0] == layer
    assert sum(len(m._forward_pre_hooks) for m in network.modules()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("arch", ALL)
def test_every_torchvision_classifier_has_a_gradcam(arch):
    from advfool.interpreters import GradCAM

    source = Torchvision(name=arch, arch=arch)
    input = source.input_format()
    network = source.create(10).eval()
    layer, layout = find_target_layer(network, input.shape)
    heatmaps = GradCAM(layer, layout=layout)(network, torch.randn(1, 3, input.size, input.size), 0)
    assert min(heatmaps.shape[1:]) >= 7


def test_no_layer_is_large_enough():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Conv2d(3, 8, 3), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(AdvfoolError, match="no convolution or block with a map of at least 7x7 for images of 224x224"):
        find_target_layer(network, IMAGENET.shape)


def test_the_layout_of_a_chosen_layer_is_found():
    network = Torchvision(name="swin_t", arch="swin_t").create(10).eval()
    assert find_target_layer(network, IMAGENET.shape, "features.7.1") == ("features.7.1", "nhwc")
    with pytest.raises(AdvfoolError, match=r"SwinTransformer has no layer 'features.9'"):
        find_target_layer(network, IMAGENET.shape, "features.9")
