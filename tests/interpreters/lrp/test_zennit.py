"""LRP against zennit."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from zennit.attribution import Gradient
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from tests.helpers.relevance import (
    BATCH_NORM,
    ZENNIT,
    cosine,
    our_lrp,
    relative,
    slow,
    some_images,
    torchvision_network,
)

OTHERS = [name for name in ZENNIT if name != "epsilon_plus"]


def zennit_maps(network, composite, images, targets, layers=()):
    """zennit's relevance, summed over channels, of the images and of the inputs and outputs of `layers`."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    canonizer = VGGCanonizer() if isinstance(network, torchvision.models.VGG) else ResNetCanonizer()
    options = {"low": torch.full_like(images[:1], -2), "high": torch.full_like(images[:1], 2)}
    composite = ZENNIT[composite](canonizers=[canonizer], **(options if composite == "epsilon_gamma_box" else {}))
    start = torch.eye(10, dtype=images.dtype)[targets]
    kept = []

    def keep(module, args, output):
        args[0].retain_grad()
        output.retain_grad()
        kept.extend((args[0], output))

    for layer in layers:
        network.get_submodule(layer).register_forward_hook(keep)
    with Gradient(model=network, composite=composite) as attributor:
        _, relevance = attributor(images.clone(), lambda logits: start * logits)
    return [relevance.sum(1).detach(), *(tensor.grad.sum(1) for tensor in kept)]


@pytest.mark.parametrize(
    ("arch", "composite", "tolerance"),
    [
        *(("vgg11", name, 1e-9) for name in ZENNIT),
        ("vgg11_bn", "epsilon_plus", 1e-3),  # zennit before 1.0 keeps the batch norm's eps when it folds it
        *(slow("vgg11_bn", name, 1e-3) for name in OTHERS),
        *(("resnet18", name, 1e-3) for name in ZENNIT),
        ("resnet50", "epsilon_plus", 1e-3),
        *(slow("resnet50", name, 1e-3) for name in OTHERS),
    ],
)
def test_agrees_with_zennit(arch, composite, tolerance, record_property):
    network, images, targets = torchvision_network(arch), some_images(), torch.tensor([1, 5])
    (expected,) = zennit_maps(network, composite, images, targets)
    with torch.no_grad():
        ours = our_lrp(composite)(network, images, targets)
    record_property("disagreement", relative(ours, expected))
    assert relative(ours, expected) <= tolerance
    assert cosine(ours, expected) >= 0.9999


def without_eps(network):
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, BATCH_NORM):
            module.eps = 0.0
    return network


@pytest.mark.parametrize("composite", ["epsilon_plus", *(slow(name) for name in OTHERS)])
def test_agrees_with_zennit_where_the_batch_norm_has_no_eps(composite, record_property):
    network, images, targets = without_eps(torchvision_network("resnet18")), some_images(), torch.tensor([1, 5])
    layers = ("layer1.0", "layer4.0", "layer4.1")
    expected, *inside = zennit_maps(network, composite, images, targets, layers)
    ours = our_lrp(composite)(network, images, targets).detach()
    assert relative(ours, expected) <= 1e-9
    sites = [(layer, side) for layer in layers for side in ("input", "output")]
    for (layer, side), relevance in zip(sites, inside, strict=True):
        at_layer = our_lrp(composite, layer=layer, layer_side=side)(network, images, targets).detach()
        assert relevance.amax() > 0
        assert relative(at_layer, relevance.relu()) <= 1e-9, (layer, side)
        record_property(f"{layer} {side}", relative(at_layer, relevance.relu()))
    record_property("disagreement", relative(ours, expected))


def test_agrees_with_zennit_after_training(record_property):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=10).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    batch, labels = torch.randn(20, 3, 32, 32), torch.arange(20) % 10
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(network(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    network = without_eps(network.double().eval())
    images, targets = batch[:2].double(), labels[:2]
    expected, _, inside = zennit_maps(network, "epsilon_plus", images, targets, ["layer3"])
    assert relative(our_lrp("epsilon_plus")(network, images, targets).detach(), expected) <= 1e-9
    at_layer = our_lrp("epsilon_plus", layer="layer3", layer_side="output")(network, images, targets).detach()
    assert relative(at_layer, inside.relu()) <= 1e-9
    record_property("disagreement", relative(at_layer, inside.relu()))
