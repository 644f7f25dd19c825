"""Grad-CAM++, LayerCAM and HiResCAM against pytorch-grad-cam."""

import numpy as np
import pytest
import torch
import torchvision
from pytorch_grad_cam import GradCAMPlusPlus as OracleGradCAMPlusPlus
from pytorch_grad_cam import HiResCAM as OracleHiResCAM
from pytorch_grad_cam import LayerCAM as OracleLayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from advfool.interpreters import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise
from tests.helpers.networks import build_tiny

ORACLES = {GradCAMPlusPlus: OracleGradCAMPlusPlus, LayerCAM: OracleLayerCAM, HiResCAM: OracleHiResCAM}


@pytest.mark.parametrize("kind", ORACLES)
@pytest.mark.parametrize(("arch", "layer"), [("resnet18", "layer4.1"), ("vgg11", "features.18")])
def test_agrees_with_pytorch_grad_cam_at_a_layers_output(kind, arch, layer):
    network = torchvision.models.get_model(arch, num_classes=10).eval()
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    images, targets = torch.randn(3, 3, 224, 224), [1, 5, 2]
    ours = kind(layer, layer_side="output")(network, images, torch.tensor(targets)).detach()
    assert ours.amax() == 1

    with ORACLES[kind](model=network, target_layers=[network.get_submodule(layer)]) as oracle:
        oracle(images, [ClassifierOutputTarget(t) for t in targets])
        activation = oracle.activations_and_grads.activations[0].numpy()
        gradient = oracle.activations_and_grads.gradients[0].numpy()
        maps = oracle.get_cam_image(images, network.get_submodule(layer), targets, activation, gradient, False)
    expected = normalise(torch.from_numpy(np.maximum(maps, 0)))
    torch.testing.assert_close(ours, expected.to(ours.dtype), atol=1e-5, rtol=1e-5)


def test_hirescam_is_gradcam_where_only_pooling_and_a_linear_layer_follow():
    network, layer = build_tiny("resnet_tiny")
    images = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    maps = [kind(layer, layer_side="output")(network, images, 3).detach() for kind in (GradCAM, HiResCAM)]
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize("kind", [GradCAM, GradCAMPlusPlus, LayerCAM, HiResCAM])
def test_a_layer_is_needed(kind):
    with pytest.raises(AdvfoolError, match=r"needs a layer, e\.g\. layer='layer4\.2'"):
        kind()


@pytest.mark.parametrize("kind", [GradCAMPlusPlus, LayerCAM, HiResCAM])
def test_an_image_does_not_depend_on_its_batch(tiny, kind):
    network, layer = tiny
    images, targets = torch.randn(3, 3, 56, 56, dtype=torch.float64), torch.arange(3)
    together = kind(layer)(network, images, targets)
    alone = torch.cat([kind(layer)(network, images[i : i + 1], targets[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)
