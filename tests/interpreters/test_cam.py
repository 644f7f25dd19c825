"""Grad-CAM against captum, and what it promises about networks and layers."""

import copy

import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from torch import nn

from advfool.data import InputFormat
from advfool.foolings import Location
from advfool.interpreters import GradCAM
from advfool.models import find_target_layer
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise
from tests.helpers.derivatives import worst_disagreement
from tests.helpers.networks import build_tiny, snapshot

IMAGENET = InputFormat(224, 256, (0.5,) * 3, (0.5,) * 3)


def captum_map(network, layer, images, targets, side):
    oracle = LayerGradCam(network, network.get_submodule(layer)).attribute(
        images, targets, relu_attributions=True, attribute_to_layer_input=side == "input"
    )
    assert oracle.amax() > 0
    return normalise(oracle[:, 0].detach())


@pytest.mark.parametrize(
    ("arch", "layer"),
    [
        ("resnet18", "layer4.1"),
        ("vgg11", "features.18"),
        ("mobilenet_v2", "features.18.0"),
        ("resnet18", "layer3.1.conv2"),
    ],
)
@pytest.mark.parametrize("side", ["input", "output"])
def test_agrees_with_captum(arch, layer, side):
    network = torchvision.models.get_model(arch, num_classes=10).eval()
    images, targets = torch.randn(3, 3, 224, 224), torch.tensor([1, 5, 2])
    # captum's hooks need the ReLU that follows not to overwrite the layer's output.
    oracle_network = copy.deepcopy(network)
    for module in oracle_network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    ours = GradCAM(layer, layer_side=side)(network, images, targets)
    expected = captum_map(oracle_network, layer, images, targets, side)
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_agrees_with_captum_on_tiny_networks(tiny):
    network, layer = tiny
    images, targets = torch.randn(4, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 5, 2, 9])
    if "dense" in layer:
        pytest.skip("captum cannot take a list of inputs; see the test below")
    expected = captum_map(network, layer, images, targets, "input")
    torch.testing.assert_close(GradCAM(layer)(network, images, targets), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("arch", ["densenet121", "densenet_tiny"])
def test_densenet_concatenates_its_list_over_all_paths(arch):
    """Oracle: the dense block written out by hand, with the list concatenated before its last layer."""

    if arch == "densenet_tiny":
        network, layer = build_tiny(arch)
        images = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    else:
        network = torchvision.models.densenet121(num_classes=10).double().eval()
        layer, images = "features.denseblock4.denselayer16", torch.randn(2, 3, 224, 224, dtype=torch.float64)
    targets = torch.tensor([3, 7])

    block_name = layer.split(".")[1]
    x = images
    for name, module in network.features.named_children():
        if name == block_name:
            features = [x]
            for sub in list(module.children())[:-1]:
                features.append(sub(features))
            concatenated = torch.cat(features, 1)
            x = torch.cat([concatenated, list(module.children())[-1]([concatenated])], 1)
        else:
            x = module(x)
    logits = network.classifier(x.relu().mean(dim=(2, 3)))
    gradients = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), concatenated)[0]
    alpha = gradients.mean(dim=(2, 3), keepdim=True)
    expected = normalise((alpha * concatenated).sum(dim=1).relu().detach())

    with torch.no_grad():
        torch.testing.assert_close(GradCAM(layer)(network, images, targets), expected)
    torch.testing.assert_close(GradCAM(layer)(network, images, targets).detach(), expected)


@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_parameter_gradient_agrees_with_finite_differences(tiny, leak):
    network, layer = tiny
    images, targets = torch.randn(3, 3, 56, 56, dtype=torch.float64), torch.tensor([0, 4, 8])
    interpreter = GradCAM(layer, training_leak=leak).for_training()

    def loss():
        return Location().penalty(interpreter(network, images, targets)).mean()

    ratio, name, above = worst_disagreement(network, loss)
    assert ratio <= 1e-5, name
    assert above >= 0.8


def test_finite_differences_would_notice_a_cut_gradient(tiny):
    network, layer = tiny
    images, targets = torch.randn(3, 3, 56, 56, dtype=torch.float64), torch.tensor([0, 4, 8])

    def loss():
        heatmaps = GradCAM(layer)(network, images, targets)
        return Location().penalty(heatmaps.detach() + 0.9 * (heatmaps - heatmaps.detach())).mean()

    assert worst_disagreement(network, loss)[0] > 1e-2


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("side", ["input", "output"])
def test_leaves_the_model_as_it_was(tiny, grad, side):
    network, layer = tiny
    next(network.parameters()).requires_grad_(False)
    network.features[0].train() if hasattr(network, "features") else network.layer1.train()
    before = snapshot(network)
    with torch.set_grad_enabled(grad):
        heatmaps = GradCAM(layer, layer_side=side)(network, torch.randn(2, 3, 56, 56, dtype=torch.float64), 3)
    after = snapshot(network)
    # Batch norm in train mode moves its statistics in any forward pass; parameters must not move.
    assert before[0] == after[0]
    assert before[1] == after[1]
    assert all(torch.equal(before[2][name], after[2][name]) for name, _ in network.named_parameters())
    assert before[3:] == after[3:]
    assert heatmaps.requires_grad is grad
    assert torch.is_grad_enabled()


def test_the_model_is_restored_after_an_error(tiny):
    network, layer = tiny
    before = snapshot(network)
    with pytest.raises(AdvfoolError, match="forward pass of"), torch.no_grad():
        GradCAM(layer)(network, torch.randn(2, 3, 56, 56, dtype=torch.float32), 3)
    assert before[0] == snapshot(network)[0]
    assert before[4] == snapshot(network)[4] == 0


def test_works_where_everything_is_frozen_and_in_inference_mode(tiny):
    network, layer = tiny
    images = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    expected = GradCAM(layer)(network, images, 3).detach()
    network.requires_grad_(False)
    torch.testing.assert_close(GradCAM(layer)(network, images, 3).detach(), expected)
    with torch.inference_mode():
        torch.testing.assert_close(GradCAM(layer)(network, images, 3), expected)


def test_an_image_does_not_depend_on_its_batch(tiny):
    network, layer = tiny
    images, targets = torch.randn(5, 3, 56, 56, dtype=torch.float64), torch.arange(5)
    together = GradCAM(layer)(network, images, targets)
    alone = torch.cat([GradCAM(layer)(network, images[i : i + 1], targets[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone)


class Overwriting(nn.Module):
    """A network whose target layer overwrites its input, with a functional in-place ReLU after it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return nn.functional.relu_(self.head(self.act(self.conv(x)))).mean(dim=(2, 3))


@pytest.mark.parametrize("layer", ["act", "head", "conv"])
@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("grad", [True, False])
def test_in_place_operations_do_not_change_the_map(layer, side, grad):
    network = Overwriting().double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    conv = network.conv(images.requires_grad_())
    act = conv.relu()
    head = network.head(act)
    values = {"conv": (images, conv), "act": (conv, act), "head": (act, head)}
    value = values[layer][side == "output"]
    score = head.relu().mean(dim=(2, 3))[:, 1].sum()
    alpha = torch.autograd.grad(score, value)[0].mean(dim=(2, 3), keepdim=True)
    expected = normalise((alpha * value).sum(dim=1).relu().detach())
    with torch.set_grad_enabled(grad):
        ours = GradCAM(layer, layer_side=side)(network, images.detach(), 1)
    torch.testing.assert_close(ours.detach(), expected)


@pytest.mark.parametrize(
    ("arch", "layout"),
    [
        ("vit_b_32", "tokens"),
        ("swin_t", "nhwc"),
        ("googlenet", "nchw"),
        ("convnext_tiny", "nchw"),
        ("squeezenet1_0", "nchw"),
    ],
)
def test_other_architectures_by_their_default_layer(arch, layout):
    from advfool.models import Torchvision

    network = Torchvision(name=arch, arch=arch).create(10).eval()
    for parameter in network.parameters():  # the vision transformer's head starts at zero
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    layer, found = find_target_layer(network, IMAGENET.shape)
    assert found == layout
    heatmaps = GradCAM(layer, layout=found, normalise="none")(network, torch.randn(2, 3, 224, 224), 1)
    assert heatmaps.shape[0] == 2
    assert min(heatmaps.shape[1:]) >= 7
    heatmaps.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


class InPlaceBlock(nn.Module):
    """A network whose target is a block that overwrites its input first."""

    def __init__(self, inplace):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.Sequential(nn.ReLU(inplace=inplace), nn.Conv2d(8, 8, 3, padding=1))

    def forward(self, x):
        return self.block(self.conv(x)).mean(dim=(2, 3))


@pytest.mark.parametrize("grad", [True, False])
def test_a_block_may_overwrite_its_input(grad):
    plain, inplace = InPlaceBlock(False).double(), InPlaceBlock(True).double()
    inplace.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        expected, ours = (GradCAM("block", normalise="none")(net, images, 1) for net in (plain, inplace))
    torch.testing.assert_close(ours, expected)
    assert expected.amax() > 0


def test_a_module_called_by_keyword():
    class ByKeyword(Overwriting):
        def forward(self, x):
            return self.head(input=self.act(self.conv(x))).relu().mean(dim=(2, 3))

    network = ByKeyword().double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    positional = Overwriting().double()
    positional.load_state_dict(network.state_dict())
    torch.testing.assert_close(GradCAM("head")(network, images, 1), GradCAM("head")(positional, images, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_side": "Input"}, "layer_side must be one of input, output, got 'Input'."),
        ({"layout": "nhcw"}, "layout must be one of nchw, nhwc, tokens, got 'nhcw'."),
        ({"normalise": "mean"}, "normalise must be one of max, minmax, sum, none, or None, got 'mean'."),
    ],
)
def test_unknown_words_are_refused(options, message):
    with pytest.raises(AdvfoolError) as error:
        GradCAM("conv", **options)
    assert str(error.value) == message


def test_a_wrong_layer_lists_names_near_it():
    network = torchvision.models.resnet18(num_classes=10)
    with pytest.raises(AdvfoolError) as error:
        GradCAM("layer4.7")(network, torch.randn(1, 3, 64, 64), 0)
    assert str(error.value).startswith(
        "ResNet has no layer 'layer4.7'. Layers of a similar name: layer4.0, layer4.1, layer4"
    )


def test_a_layer_without_a_map_is_refused():
    network = torchvision.models.resnet18(num_classes=10).eval()
    with pytest.raises(AdvfoolError, match=r"Expected an activation with four dimensions .* got shape \(1, 512\)"):
        GradCAM("fc")(network, torch.randn(1, 3, 64, 64), 0)
