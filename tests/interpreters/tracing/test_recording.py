"""Recordings by hooks and by a torch.fx graph are the same recording."""

import copy
from functools import lru_cache

import pytest
import torch
from torch import nn

from advfool.interpreters import LRP, GradCAM, SimpleGrad
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from tests.helpers.networks import build_tiny
from tests.helpers.small_networks import Small, some_images

PLACES = [
    ("vgg_tiny", "features.14"),
    ("vgg_tiny", "features.2"),  # an in-place ReLU
    ("resnet_tiny", "layer3.1"),
    ("resnet_tiny", "layer2"),
    ("densenet_tiny", "features.denseblock2.denselayer4"),
    ("densenet_tiny", "features.denseblock1.denselayer2"),
    ("densenet_tiny", "features.denseblock2"),
]


tiny_network = lru_cache(build_tiny)


@pytest.mark.parametrize(("name", "layer"), PLACES)
@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("grad", [True, False])
def test_graphs_and_hooks_agree(name, layer, side, grad):
    network, _ = tiny_network(name)
    images, targets = torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([3, 8])
    cam = GradCAM(layer, layer_side=side, normalise="none")
    with torch.set_grad_enabled(grad):
        hooks, graph = record(network, images, [cam]), record(network, images, [cam, LRP()])
        maps = [cam.read(recording, targets) for recording in (hooks, graph)]
    assert hooks.trace is None
    assert graph.trace is not None
    torch.testing.assert_close(graph.logits, hooks.logits, rtol=1e-12, atol=1e-12)
    assert len(graph.at(cam.site)) == len(hooks.at(cam.site))
    for ours, expected in zip(graph.at(cam.site), hooks.at(cam.site), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert maps[0].amax() > 0
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-10, atol=1e-14)
    if grad:
        gradients = [torch.autograd.grad(m.square().sum(), network.parameters(), allow_unused=True) for m in maps]
        assert any(g is not None and g.any() for g in gradients[0])
        for ours, expected in zip(*gradients, strict=True):
            assert (ours is None or not ours.any()) == (expected is None or not expected.any())
            if ours is not None and expected is not None:
                torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("name", "first"), [("resnet_tiny", "conv1"), ("densenet_tiny", "features.conv0")])
def test_one_forward_pass_serves_many(name, first, grad):
    network, layer = copy.deepcopy(tiny_network(name))
    images, targets = torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([3, 8])
    readers = [GradCAM(layer), SimpleGrad(layer), SimpleGrad(), LRP(layer), LRP()]
    with torch.set_grad_enabled(grad):
        alone = [reader(network, images, targets) for reader in readers]
    calls = []
    network.get_submodule(first).register_forward_hook(lambda module, args, output: calls.append(module))
    with torch.set_grad_enabled(grad):
        record(network, images, readers)  # the first recording also traces the network
        calls.clear()
        recording = record(network, images, readers)
        together = [reader.read(recording, targets) for reader in readers]
    assert len(calls) == 1
    torch.testing.assert_close(recording.logits, network(images))
    for ours, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


class Twice(Small):
    def __init__(self):
        super().__init__()
        self.unused = nn.Conv2d(4, 4, 1).double()

    def forward(self, images):
        x = self.act(self.first(images))
        return self.head(self.second(self.second(x).relu()).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("second", "Layer 'second' runs more than once in a forward pass"),
        ("unused", "Layer 'unused' was not used in the forward pass"),
        ("secnd", "Twice has no layer 'secnd'. Layers of a similar name: second,"),
    ],
)
@pytest.mark.parametrize("side", ["input", "output"])
def test_a_layer_without_a_single_activation_is_refused(layer, message, side):
    network, images = Twice(), some_images()
    for readers in (
        [GradCAM(layer, layer_side=side)],
        [GradCAM(layer, layer_side=side), LRP()],
        [LRP(layer, layer_side=side)],
    ):
        with pytest.raises(AdvfoolError) as error:
            record(network, images, readers)
        assert str(error.value).startswith(message)
    assert record(network, images, [GradCAM("first"), LRP()]).trace is not None
