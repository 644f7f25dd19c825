"""LRP against zennit, against formulas written out, and for what it promises."""

import copy
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from conftest import TINY, build_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gradcam import snapshot
from torch import nn
from zennit import composites as zennit_composites
from zennit.attribution import Gradient
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from advfool.interpreters import LRP, GradCAM
from advfool.interpreters.lrp import (
    AlphaBeta,
    Composite,
    Epsilon,
    Flat,
    Gamma,
    Norm,
    Pass,
    Route,
    Split,
    Sum,
    ZBox,
    ZPlus,
)
from advfool.interpreters.lrp.layers import Layer
from advfool.interpreters.lrp.linear import convolution_map, linear_map
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)
ZENNIT = {
    "epsilon_plus": zennit_composites.EpsilonPlus,
    "epsilon_alpha2_beta1": zennit_composites.EpsilonAlpha2Beta1,
    "epsilon_gamma_box": zennit_composites.EpsilonGammaBox,
    "epsilon_plus_flat": zennit_composites.EpsilonPlusFlat,
    "epsilon_alpha2_beta1_flat": zennit_composites.EpsilonAlpha2Beta1Flat,
}
OTHERS = [name for name in ZENNIT if name != "epsilon_plus"]


built = lru_cache(build_tiny)


@pytest.fixture(params=TINY)
def tiny(request):
    network, layer = built(request.param)
    return copy.deepcopy(network), layer


def meaningful(network, size=None):
    """Random weights that let values neither vanish nor explode; statistics of batch norm are random, too.

    With a `size` they are those of the activations of images of this size.
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
        elif name.endswith("weight"):
            nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            nn.init.normal_(parameter, std=0.1)
    norms = [module for module in network.eval().modules() if isinstance(module, BATCH_NORM)]
    for norm in norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.train(size is not None)
        norm.momentum = 1.0
    if norms and size:
        with torch.no_grad():
            network(torch.randn(8, 3, size, size, dtype=next(network.parameters()).dtype))
    return network.eval()


@lru_cache(maxsize=1)
def torchvision_network(arch, size=None):
    torch.manual_seed(0)
    # Initialising VGG's wide linear layers takes long, so they are made narrow; RegNet cannot be built without values.
    with torch.device("cpu" if arch.startswith("regnet") else "meta"):
        network = torchvision.models.get_model(arch, num_classes=10)
        if arch.startswith("vgg"):
            for place, (inside, outside) in {0: (512 * 49, 64), 3: (64, 32), 6: (32, 10)}.items():
                network.classifier[place] = nn.Linear(inside, outside)
    return meaningful(network.to_empty(device="cpu").double(), size)


def some_images(n=2, size=64):
    return torch.randn(n, 3, size, size, dtype=torch.float64)


def relative(ours, expected):
    return ((ours - expected).norm() / expected.norm()).item()


def cosine(a, b):
    return F.cosine_similarity(a.double().flatten(1), b.double().flatten(1)).min().item()


# zennit


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


def our_lrp(composite, **options):
    return LRP(composite=composite, epsilon=1e-6, normalise="none", mean=[0.5] * 3, std=[0.25] * 3, **options)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("arch", "composite", "tolerance"),
    [
        *(("vgg11", name, 1e-9) for name in ZENNIT),
        ("vgg11_bn", "epsilon_plus", 1e-3),  # zennit keeps the batch norm's eps when it folds it
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


# The formulas, written out


def convolution_matrix(weight, size, stride, padding):
    """A convolution of a (c, size, size) image as a dense matrix."""
    outputs, channels, kernel, _ = weight.shape
    steps = (size + 2 * padding - kernel) // stride + 1
    matrix = np.zeros((outputs, steps, steps, channels, size, size))
    for k in range(outputs):
        for i in range(steps):
            for j in range(steps):
                for c in range(channels):
                    for a in range(kernel):
                        for b in range(kernel):
                            row, column = i * stride + a - padding, j * stride + b - padding
                            if 0 <= row < size and 0 <= column < size:
                                matrix[k, i, j, c, row, column] = weight[k, c, a, b]
    return matrix.reshape(outputs * steps * steps, -1), steps


def positive(value):
    return np.maximum(value, 0)


def negative(value):
    return np.minimum(value, 0)


def numpy_relevance(rule, x, matrix, bias, relevance):
    """The relevance of each x_j from that of each z_k = sum_j x_j w_kj + b_k, one output after the other."""
    found = np.zeros_like(x)
    for w, b, r in zip(matrix, bias, relevance, strict=True):
        c = x * w
        z = c.sum() + b
        if isinstance(rule, Epsilon):
            found += c / (z + np.copysign(rule.epsilon, z)) * r
        elif isinstance(rule, ZPlus):
            found += positive(c) / (positive(c).sum() + max(b, 0) + rule.stabiliser) * r
        elif isinstance(rule, AlphaBeta):
            found += rule.alpha * positive(c) / (positive(c).sum() + max(b, 0) + rule.stabiliser) * r
            below = negative(c).sum() + min(b, 0)
            found -= rule.beta * negative(c) / (below + np.copysign(rule.stabiliser, below)) * r
        elif isinstance(rule, Gamma):
            clamp = positive if z > 0 else negative
            weighted = c + rule.gamma * clamp(c)
            total = weighted.sum() + b + rule.gamma * clamp(b)
            found += weighted / (total + np.copysign(rule.stabiliser, total)) * r
        elif isinstance(rule, Flat):
            found += (w != 0) / ((w != 0).sum() + rule.stabiliser) * r
        elif isinstance(rule, ZBox):
            c = c - rule.low * positive(w) - rule.high * negative(w)
            found += c / (c.sum() + np.copysign(rule.stabiliser, c.sum())) * r
    return found


def two_convolutions():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 5),
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network.double()


def written_out(network, image, target, rules):
    """The relevance of the image and of the second convolution's input."""
    (first, _, second, _, _, last) = network
    weights = {module: module.weight.detach().numpy() for module in (first, second, last)}
    biases = {module: module.bias.detach().numpy() for module in (first, second, last)}
    w1, steps = convolution_matrix(weights[first], image.shape[-1], 1, 1)
    b1 = np.repeat(biases[first], steps**2)
    w2, steps = convolution_matrix(weights[second], steps, 2, 0)
    b2 = np.repeat(biases[second], steps**2)
    x = image.numpy().reshape(-1)
    a1 = positive(w1 @ x + b1)
    a2 = positive(w2 @ a1 + b2)
    logits = weights[last] @ a2 + biases[last]
    relevance = np.where(np.arange(5) == target, logits, 0)
    relevance = numpy_relevance(rules[2], a2, weights[last], biases[last], relevance)
    at_layer = numpy_relevance(rules[1], a1, w2, b2, relevance)
    at_image = numpy_relevance(rules[0], x, w1, b1, at_layer)
    return at_image.reshape(image.shape).sum(0), at_layer.reshape(4, *image.shape[1:]).sum(0)


COMPOSITES = {
    "epsilon": (Composite(Epsilon(0.02), Epsilon(0.05)), (Epsilon(0.02), Epsilon(0.02), Epsilon(0.05))),
    "z_plus": (Composite(ZPlus(1e-3), Epsilon(0.05)), (ZPlus(1e-3), ZPlus(1e-3), Epsilon(0.05))),
    "alpha3_beta2": (Composite(AlphaBeta(3, 2, 1e-3), Epsilon(0.05)), (*[AlphaBeta(3, 2, 1e-3)] * 2, Epsilon(0.05))),
    "gamma": (Composite(Gamma(0.3, 1e-3), Epsilon(0.05)), (Gamma(0.3, 1e-3), Gamma(0.3, 1e-3), Epsilon(0.05))),
    "flat": (Composite(ZPlus(1e-3), Epsilon(0.05), Flat(1e-3)), (Flat(1e-3), ZPlus(1e-3), Epsilon(0.05))),
    "box": (Composite(ZPlus(), ZPlus(1e-3), ZBox(-3.0, 4.0, 1e-3)), (ZBox(-3.0, 4.0, 1e-3), ZPlus(), ZPlus(1e-3))),
}


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("grad", [True, False])
def test_agrees_with_the_formulas(name, grad):
    composite, rules = COMPOSITES[name]
    network, images, targets = two_convolutions(), some_images(3, 5), torch.tensor([0, 4, 2])
    oracle = [written_out(network, image, int(t), rules) for image, t in zip(images, targets, strict=True)]
    at_image, at_layer = (torch.from_numpy(np.stack(maps)) for maps in zip(*oracle, strict=True))
    with torch.set_grad_enabled(grad):
        ours = LRP(composite=composite, normalise="none")(network, images, targets)
        inside = LRP("2", composite=composite, normalise="none")(network, images, targets)
    torch.testing.assert_close(ours.detach(), at_image, rtol=1e-10, atol=1e-10 * at_image.abs().amax().item())
    assert (at_layer < 0).any()
    torch.testing.assert_close(inside.detach(), at_layer.relu(), rtol=1e-10, atol=1e-10 * at_layer.amax().item())


def test_a_batch_norm_that_passes():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)
    )
    network = meaningful(network.double(), 5)
    image = some_images(1, 5)
    x, weight = image.numpy().reshape(-1), convolution_matrix(network[0].weight.detach().numpy(), 5, 1, 0)[0]
    activation = network[:4](image).detach().numpy()[0]
    logits = network(image).detach().numpy()[0]
    linear = network[4].weight.detach().numpy()
    relevance = numpy_relevance(
        Epsilon(0.01), activation, linear[3:4], network[4].bias.detach().numpy()[3:4], logits[3:4]
    )
    expected = numpy_relevance(ZPlus(1e-6), x, weight, np.zeros(36), relevance).reshape(3, 5, 5).sum(0)
    passed = LRP(batchnorm="pass", normalise="none")(network, image, 3).detach()
    torch.testing.assert_close(passed[0], torch.from_numpy(expected), rtol=1e-10, atol=1e-12)
    assert relative(LRP(normalise="none")(network, image, 3).detach(), passed) > 1e-3


def test_relevance_of_one_instead_of_the_logit(tiny):
    network, layer = tiny
    images = some_images(3, 56)
    logits = network(images)
    targets = torch.stack([logits[0].argmax(), logits[1].argmin(), logits[2].argmin()])
    logits = logits.gather(1, targets[:, None])[:, :, None]
    assert logits.amin() < 0 < logits.amax()
    logit, one = (LRP(start=start, normalise="none")(network, images, targets) for start in ("logit", "one"))
    torch.testing.assert_close(one * logits, logit)
    one = LRP(layer, start="one", normalise="none")(network, images, targets)
    positive = logits[:, 0, 0] > 0
    logit = LRP(layer, normalise="none")(network, images, targets)
    torch.testing.assert_close((one * logits)[positive], logit[positive])
    with pytest.raises(AdvfoolError) as error:
        LRP(start="zero")
    assert str(error.value) == "start must be one of logit, one, got 'zero'."


# Networks


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


# What has no rule


class Sine(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.body = nn.Conv2d(3, 5, 1), SineBody()

    def forward(self, images):
        return self.body(self.first(images)).mean(dim=(2, 3))


class SineBody(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class Body(nn.Module):
    """Has no rule, and is not taken apart when it is given one."""

    def forward(self, x):
        return torch.sin(x) * x


class WithBody(Sine):
    def __init__(self):
        super().__init__()
        self.body = Body()


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


class Method(Sine):
    def forward(self, images):
        return self.first(images).sin().mean(dim=(2, 3))


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
def test_what_has_no_rule_is_refused_before_any_work(build, size, parts):
    network, images, calls = build().eval(), torch.randn(1, 3, size, size), []

    def count(module, args):
        if args and isinstance(args[0], torch.Tensor):  # otherwise it is being traced
            calls.append(module)

    for module in network.modules():
        module.register_forward_pre_hook(count)
    with pytest.raises(AdvfoolError) as error:
        LRP()(network, images, 0)
    message = str(error.value)
    assert message.startswith(f"LRP has no rule for {parts[0]} (")
    for part in [*parts, "What has rules: ", "Conv2d", "gradient-based interpreter"]:
        assert part in message
    assert not calls


@pytest.mark.parametrize("key", [torch.sin, "torch.sin", SineBody, "test_lrp.SineBody"])
@pytest.mark.parametrize("rule", ["pass", Pass()])
def test_a_rule_of_the_user(key, rule):
    network, images = Sine().double(), some_images(2, 8)
    expected = LRP(normalise="none")(nn.Sequential(network.first, GlobalAverage()), images, 1).detach()
    with torch.no_grad():  # the relevance that starts is another: the logit after the sine
        without, with_sine = (
            f(images).mean(dim=(2, 3))[:, 1] for f in (network.first, lambda x: network.first(x).sin())
        )
    assert relative(with_sine, without) > 1e-2
    ours = LRP(rules={key: rule}, start="one", normalise="none", stabiliser=1e-12)(network, images, 1)
    # Norm shares in proportion to the sine's values, Pass hands that on, z+ shares it among the pixel's channels.
    values = network.first(images).sin()[:, 1].detach()
    share = values / values.sum(dim=(1, 2), keepdim=True)
    contributions = network.first.weight[1].detach() * images
    positives = contributions.clamp(min=0).sum(1)
    total = positives + network.first.bias[1].detach().clamp(min=0)
    torch.testing.assert_close(ours.detach(), share * positives / (total + 1e-12))
    assert expected.shape == ours.shape


class GlobalAverage(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


@pytest.mark.parametrize("key", [Body, "test_lrp.Body"])
def test_a_rule_for_a_module_of_ones_own(key):
    network, images = WithBody().double(), some_images(2, 8)
    with pytest.raises(AdvfoolError, match="no rule for"):
        LRP()(network, images, 1)
    passing = LRP(rules={key: Pass()}, normalise="none")(network, images, 1)
    assert passing.std() > 0
    norm = LRP(rules={key: "norm"}, normalise="none")(network, images, 1)
    assert relative(norm, passing) > 1e-3
    assert record(network, images, [LRP(rules={key: "pass"})]).trace.modules["body"] is network.body


def test_a_rule_for_a_method():
    images, function, method = some_images(2, 8), Sine().double(), Method().double()
    method.load_state_dict(function.state_dict())
    ours = LRP(rules={"sin": "pass"}, normalise="none")(method, images, 1)
    torch.testing.assert_close(ours, LRP(rules={torch.sin: "pass"}, normalise="none")(function, images, 1))


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (lambda: LRP(rules={torch.sin: "psas"}), ["rules: expected a rule or one of pass, norm, route, got 'psas'."]),
        (lambda: LRP(rules={"test_lrp.Boddy": "pass"}), ["rules: there is no 'test_lrp.Boddy' to give a rule to"]),
        (lambda: LRP(rules={"no_such_module.Body": "pass"}), ["there is no 'no_such_module.Body'", "No module named"]),
        (lambda: LRP(rules={"sinn": "pass"}), ["a tensor has no method 'sinn'", "need their module"]),
        (lambda: LRP(composite="epsilon"), ["There is no composite 'epsilon'. There are: epsilon_plus, epsilon_al"]),
        (
            lambda: LRP(composite="epsilon_gamma_box"),
            ["needs the range of the network's input", "interp.mean=", "first=ZBox(low, high)"],
        ),
        (lambda: LRP(composite="epsilon_gamma_box", mean=[0.5] * 3), ["needs the range of the network's input"]),
        (lambda: AlphaBeta(3, 1), ["AlphaBeta needs alpha - beta = 1 and beta >= 0, got alpha=3, beta=1."]),
        (lambda: AlphaBeta(0, -1), ["AlphaBeta needs alpha - beta = 1 and beta >= 0, got alpha=0, beta=-1."]),
        (lambda: LRP(batchnorm="skip"), ["batchnorm must be one of fold, pass, got 'skip'."]),
        (lambda: Composite(batchnorm="skip"), ["batchnorm must be one of fold, pass, got 'skip'."]),
    ],
)
def test_wrong_options_say_what_to_do(build, parts):
    with pytest.raises(AdvfoolError) as error:
        build()
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("batchnorm", ["fold", "pass"])
@pytest.mark.parametrize("first", ["convolution", "batch norm"])
def test_batch_norm_in_train_mode_is_refused(batchnorm, first):
    layers = (
        [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)] if first == "convolution" else [nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)]
    )
    network = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    images = torch.randn(2, 3, 5, 5)
    assert LRP(batchnorm=batchnorm)(network.eval(), images, 1).std() > 0
    with pytest.raises(AdvfoolError, match=r"eval mode.*model\.eval\(\)"):
        LRP(batchnorm=batchnorm)(network.train(), images, 1)


def test_batch_norm_in_train_mode_is_refused_before_any_work():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    with pytest.raises(AdvfoolError):
        LRP()(network, torch.randn(2, 3, 5, 5), 1)
    assert network[1].num_batches_tracked == 0


# Conservation


def no_bias(*args, **kwargs):
    return nn.Conv2d(*args, bias=False, **kwargs)


class Concatenated(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.a, self.b = no_bias(inside, 4, 1), no_bias(inside, 3, 3, padding=1)

    def forward(self, x):
        return torch.cat([x, self.a(x).relu(), F.relu(self.b(x))], 1)


class Residual(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.convolution = no_bias(inside, inside, 3, padding=1)

    def forward(self, x):
        return F.relu(self.convolution(x)) + x


BLOCKS = {
    "convolution": lambda inside: nn.Sequential(no_bias(inside, 6, 3, padding=1), nn.ReLU()),
    "strided": lambda inside: nn.Sequential(no_bias(inside, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True)),
    "max pool": lambda inside: nn.MaxPool2d(3, 2, 1),
    "average pool": lambda inside: nn.AvgPool2d(3, 2, 1),
    "concatenation": Concatenated,
    "residual": Residual,
}


def random_network(seed, blocks):
    torch.manual_seed(seed)
    network = BLOCKS["convolution"](3).double()
    x = some_images(3, 13)
    for block in blocks:
        network.append(BLOCKS[block](network(x).shape[1]).double())
    network.append(nn.Flatten())
    network.append(nn.Linear(network(x).shape[1], 5, bias=False).double())
    for parameter in network.parameters():
        nn.init.kaiming_normal_(parameter)
    return network, x


@given(st.integers(0, 10**6), st.lists(st.sampled_from(list(BLOCKS)), min_size=1, max_size=5), st.booleans())
@settings(deadline=None, max_examples=25)
def test_relevance_is_conserved(seed, blocks, plus):
    network, images = random_network(seed, blocks)
    with torch.no_grad():
        logits = network(images)
        targets = logits.abs().argmax(1)
        logit = logits.gather(1, targets[:, None])[:, 0]
        # Without biases, what z+ finds nothing positive for is 0 after the ReLU and has no relevance.
        everywhere_epsilon = Composite(Epsilon(1e-12), Epsilon(1e-12), sum=Sum(1e-12), average=Norm(1e-12))
        lrp = LRP(
            composite="epsilon_plus" if plus else everywhere_epsilon, epsilon=1e-12, stabiliser=1e-12, normalise="none"
        )
        heatmaps = lrp(network, images, targets)
    torch.testing.assert_close(heatmaps.sum(dim=(1, 2)), logit, rtol=1e-6, atol=0)


@dataclass
class Drawn:
    """A random linear layer or convolution without bias, with its output's relevance."""

    layer: Layer
    relevance: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor


@st.composite
def drawn_layers(draw):
    torch.manual_seed(draw(st.integers(0, 10**6)))
    nonnegative = draw(st.booleans())
    if draw(st.booleans()):
        x, linear = torch.randn(3, 7).double(), linear_map(torch.randn(5, 7).double())
    else:
        groups, kernel = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3))
        padding = draw(st.integers(0, kernel - 1))
        x = torch.randn(2, 4, 9, 8).double()
        linear = convolution_map(
            torch.randn(6, 4 // groups, kernel, kernel).double(),
            stride=draw(st.integers(1, 3)),
            padding="same" if draw(st.booleans()) else padding,
            dilation=draw(st.integers(1, 2)),
            groups=groups,
        )
    x = x.abs() if nonnegative else x
    w = linear.weight
    parts = {
        (i, j): linear.apply(x.clamp(**i_), w.clamp(**j_), None)
        for i, i_ in (("+", {"min": 0}), ("-", {"max": 0}))
        for j, j_ in (("+", {"min": 0}), ("-", {"max": 0}))
    }
    output = linear.apply(x, w, None)
    layer = Layer([x], output, lambda y: linear.apply(y, w, None), linear, nonnegative)
    return Drawn(layer, torch.randn_like(output), parts["+", "+"] + parts["-", "-"], parts["+", "-"] + parts["-", "+"])


LITTLE = 1e-13
EVERYWHERE = torch.ones_like
RULES = {  # with where they have something to share in proportion to
    Epsilon(LITTLE): lambda drawn: drawn.layer.output.abs() > 1e-4,
    ZPlus(LITTLE): lambda drawn: drawn.positive > 1e-4,
    AlphaBeta(2, 1, LITTLE): lambda drawn: (drawn.positive > 1e-4) & (drawn.negative < -1e-4),
    AlphaBeta(1, 0, LITTLE): lambda drawn: drawn.positive > 1e-4,
    Gamma(0.25, LITTLE): lambda drawn: drawn.layer.output.abs() > 1e-4,
    ZBox(-6.0, 6.0, LITTLE): lambda drawn: EVERYWHERE(drawn.relevance),
    Flat(LITTLE): lambda drawn: EVERYWHERE(drawn.relevance),
    Norm(LITTLE): lambda drawn: drawn.layer.output.abs() > 1e-4,
}


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("grad", [True, False])
@given(drawn=drawn_layers())
@settings(deadline=None, max_examples=20)
def test_rules_of_linear_layers_conserve(rule, grad, drawn):
    relevance = drawn.relevance * RULES[rule](drawn)
    with torch.set_grad_enabled(grad):
        (share,) = rule(drawn.layer, relevance)
    assert share.shape == drawn.layer.inputs[0].shape
    error = (share.flatten(1).sum(1) - relevance.flatten(1).sum(1)).abs().max()
    assert error <= 1e-9 * max(share.abs().sum().item(), 1)


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.booleans())
@settings(deadline=None, max_examples=20)
def test_rules_of_everything_else_conserve(seed, kernel, stride, grad):
    torch.manual_seed(seed)
    x, y = torch.randn(2, 3, 7, 6).double(), torch.randn(2, 5, 7, 6).double()

    def max_pool(value):
        return F.max_pool2d(value, kernel, stride, kernel // 2)

    def average_pool(value):
        return F.avg_pool2d(value, kernel, stride, kernel // 2)

    with torch.set_grad_enabled(grad):
        relevance = torch.randn_like(max_pool(x))
        cases = [
            (Route()(Layer([x], None, max_pool), relevance), relevance),
            (Norm(LITTLE)(Layer([x.abs()], None, average_pool), relevance), relevance),
        ]
        whole = torch.randn(2, 8, 7, 6).double()
        cases.append((Split(1)(Layer([x, y]), whole), whole))
        padded = F.pad(whole, (1, 0, 2, 1))
        cases.append((Route()(Layer([whole], None, lambda t: F.pad(t, (1, 0, 2, 1))), padded), padded))
        a, b, relevance = x.abs(), torch.rand_like(x), torch.randn_like(x)
        cases.append((Sum(LITTLE)(Layer([a, b], a + b, torch.add), relevance), relevance))
        one = torch.rand(3, 1, 1).double()  # broadcast
        cases.append((Sum(LITTLE)(Layer([a, one], a + one, torch.add), relevance), relevance))
        cases.append((Pass()(Layer(), relevance), relevance))
    for shares, arrived in cases:
        total = sum(share.sum() for share in shares)
        torch.testing.assert_close(total, arrived.sum(), rtol=1e-9, atol=1e-9)
    assert [share.shape for share in cases[2][0]] == [x.shape, y.shape]
    torch.testing.assert_close(torch.cat(cases[2][0], 1), whole, rtol=0, atol=0)


def test_max_pooling_gives_to_the_winner():
    x = torch.tensor([[[[1.0, 5.0, 2.0, 4.0]]]])
    (share,) = Route()(Layer([x], None, lambda t: F.max_pool2d(t, (1, 2), (1, 1))), torch.tensor([[[[1.0, 2.0, 4.0]]]]))
    assert share.tolist() == [[[[0.0, 3.0, 0.0, 4.0]]]]


# Promises


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


def test_lrp_is_grad_cam_at_the_last_output():
    """Behind the last block there is only the average and a linear layer, so both are relu(sum_k w_k a_k)."""
    network, images = torchvision_network("resnet50", 96), some_images(2, 96)
    options = {"layer": "layer4.2", "normalise": "max"}
    with torch.no_grad():
        targets = network(images).argmax(1)
        for side, lowest, highest in (("output", 0, 1e-6), ("input", 0.1, 10)):
            lrp = LRP(**options, layer_side=side, epsilon=1e-9)(network, images, targets)
            cam = GradCAM(**options, layer_side=side)(network, images, targets)
            assert cam.amax(dim=(1, 2)).tolist() == [1, 1]
            assert cam.shape == (2, 3, 3)
            assert lowest <= (lrp - cam).abs().amax() <= highest, side


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
