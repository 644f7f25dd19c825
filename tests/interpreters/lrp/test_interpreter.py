"""What LRP promises: about batches, precision, the network it reads, and layers."""

import pytest
import torch
import torchvision
from torch import nn

from advfool.interpreters import LRP
from advfool.utilities.errors import AdvfoolError
from tests.helpers.networks import TINY, snapshot
from tests.helpers.relevance import ZENNIT, built, cosine, meaningful, our_lrp, relative, some_images


@pytest.mark.parametrize("batchnorm", ["fold", "pass"])
@pytest.mark.parametrize("first", ["convolution", "batch norm"])
def test_batch_norm_in_train_mode_runs_in_eval_mode(batchnorm, first):
    layers = (
        [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)] if first == "convolution" else [nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)]
    )
    network = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    images = torch.randn(2, 3, 5, 5)
    expected = LRP(batchnorm=batchnorm)(network.eval(), images, 1)
    assert expected.std() > 0
    torch.testing.assert_close(LRP(batchnorm=batchnorm)(network.train(), images, 1), expected)
    assert all(module.training for module in network.modules())


def test_batch_norm_without_running_statistics_is_refused():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)
    )
    with pytest.raises(AdvfoolError, match="Batch norm '1' keeps no running statistics"):
        LRP()(network, torch.randn(2, 3, 5, 5), 1)


@pytest.mark.parametrize("at_layer", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_an_image_does_not_depend_on_its_batch(tiny, at_layer, grad):
    network, layer = tiny
    interpreter = LRP(layer if at_layer else None)
    images = some_images(4, 56)
    targets = network(images).argmax(1)
    with torch.set_grad_enabled(grad):
        together = interpreter(network, images, targets)
        alone = torch.cat([interpreter(network, images[i : i + 1], targets[i : i + 1]) for i in range(4)])
    assert together.std(dim=(1, 2)).min() > 0
    torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("way", ["autocast", "cast"])
@pytest.mark.parametrize("layer", [None, "layer4.1"])
@pytest.mark.parametrize("grad", [True, False])
def test_bfloat16_gives_float32_maps(way, layer, grad):
    torch.manual_seed(0)
    network = meaningful(torchvision.models.resnet18(num_classes=10), 64)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        targets = network(images).argmax(1)
        expected = LRP(layer)(network, images, targets)
    with torch.set_grad_enabled(grad):
        if way == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                ours = LRP(layer)(network, images, targets)
        else:
            ours = LRP(layer)(network.bfloat16(), images.bfloat16(), targets)
    assert expected.std(dim=(1, 2)).min() > 0
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, expected)
    assert cosine(ours, expected) >= 0.99


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("at_layer", [True, False])
def test_leaves_the_model_as_it_was(tiny, grad, at_layer):
    network, layer = tiny
    next(network.parameters()).requires_grad_(False)
    in_place = [getattr(module, "inplace", None) for module in network.modules()]
    before = snapshot(network)
    images = some_images(2, 56)
    pixels = images.clone()
    with torch.set_grad_enabled(grad):
        heatmaps = LRP(layer if at_layer else None)(network, images, 3)
    after = snapshot(network)
    assert before[:2] == after[:2]
    assert all(torch.equal(before[2][name], value) for name, value in after[2].items())
    assert before[3:] == after[3:]
    assert after[4] == 0
    assert in_place == [getattr(module, "inplace", None) for module in network.modules()]
    assert torch.equal(images, pixels)
    assert not images.requires_grad
    assert heatmaps.requires_grad is grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("at_layer", [True, False])
def test_works_where_everything_is_frozen_and_in_inference_mode(tiny, at_layer):
    network, layer = tiny
    images, interpreter = some_images(2, 56), LRP(layer if at_layer else None)
    expected = interpreter(network, images, 3).detach()
    assert expected.std() > 0
    with torch.no_grad():
        torch.testing.assert_close(interpreter(network, images, 3), expected, rtol=1e-9, atol=1e-12)
    network.requires_grad_(False)
    frozen = interpreter(network, images, 3)
    torch.testing.assert_close(frozen, expected, rtol=1e-9, atol=1e-12)
    with torch.inference_mode():
        torch.testing.assert_close(interpreter(network, images, 3), expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(interpreter(network, images.clone(), 3), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("composite", [*ZENNIT, "epsilon_gamma_box_flat"])
def test_maps_are_the_same_with_and_without_grad(name, composite):
    network, _ = built(name)
    images, interpreter = some_images(2, 56), our_lrp(composite)
    with_graph = interpreter(network, images, 3)
    with torch.no_grad():
        without = interpreter(network, images, 3)
    assert relative(with_graph.detach(), without) <= 1e-12
