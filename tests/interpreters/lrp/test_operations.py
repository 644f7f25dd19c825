"""Which networks LRP has rules for, and how it refuses the others."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from advfool.interpreters import LRP
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from tests.helpers.relevance import Method, Sine, meaningful, slow, some_images, torchvision_network


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("squeezenet1_1", 64),
        ("mobilenet_v3_small", 64),
        ("shufflenet_v2_x0_5", 64),
        ("densenet121", 64),
        ("timm:tf_efficientnet_lite0", 64),
        slow("alexnet", 96),
        slow("googlenet", 64),
        slow("mobilenet_v2", 64),
        slow("efficientnet_b0", 64),
        slow("regnet_y_400mf", 64),
        slow("mnasnet0_5", 64),
        slow("convnext_tiny", 64),
        slow("resnext50_32x4d", 64),
    ],
)
def test_runs_on(arch, size):
    if arch.startswith("timm:"):
        network = meaningful(timm.create_model(arch.removeprefix("timm:"), num_classes=10).double(), size)
    else:
        network = torchvision_network(arch, size)
    images = some_images(2, size)
    with torch.no_grad():
        logits = network(images)
        targets = logits.argmax(1)
        heatmaps = LRP(normalise="none")(network, images, targets)
        torch.testing.assert_close(record(network, images, [LRP()]).logits, logits)
    assert heatmaps.shape == (2, size, size)
    assert heatmaps.isfinite().all()
    assert (heatmaps.std(dim=(1, 2)) > 1e-3 * heatmaps.abs().amax(dim=(1, 2))).all()
    assert heatmaps.abs().amax() > 1e-9
    with_graph = LRP()(network, images, targets)
    torch.testing.assert_close(with_graph.detach(), LRP().scale(heatmaps), rtol=1e-7, atol=1e-9)
    gradients = torch.autograd.grad(with_graph.square().sum(), network.parameters(), allow_unused=True)
    found = [gradient for gradient in gradients if gradient is not None]
    assert all(gradient.isfinite().all() for gradient in found)
    assert sum(bool(gradient.any()) for gradient in found) > 0.5 * len(gradients)


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1)

    def forward(self, images):
        return (self.first(images) * self.second(images)).mean(dim=(2, 3))


class Square(Sine):
    def forward(self, images):
        x = self.first(images)
        return (x * x).mean(dim=(2, 3))


def vision_transformer():
    return torchvision.models.vit_b_32(num_classes=10)


@pytest.mark.parametrize(
    ("build", "size", "parts"),
    [
        (Sine, 8, ["sin", "node 'sin' in 'body'", "{torch.sin: pass}"]),
        (Method, 8, ["sin", "node 'sin'", "{sin: pass}"]),
        (Product, 8, ["mul", "node 'mul'", "of two values of which neither, or both, come from a sigmoid"]),
        (Square, 8, ["mul", "node 'mul'"]),
        (
            vision_transformer,
            224,
            [
                "MultiheadAttention",
                "node 'encoder_layers_encoder_layer_11_self_attention'",
                "in 'encoder.layers.encoder_layer_11.self_attention'",
                "{torch.nn.modules.activation.MultiheadAttention: pass}",
            ],
        ),
    ],
)
def test_what_has_no_rule_is_refused(build, size, parts):
    network, images = build().eval(), torch.randn(1, 3, size, size)
    with pytest.raises(AdvfoolError) as error:
        LRP()(network, images, 0)
    message = str(error.value)
    assert message.startswith(f"LRP has no rule for {parts[0]} (")
    for part in [*parts, "Operations with rules: ", "Conv2d", "gradient-based interpreter"]:
        assert part in message
