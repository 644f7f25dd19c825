"""Recordings by hooks and by a torch.fx graph are the same recording."""

import copy
import gc
import weakref
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from conftest import build_tiny
from torch import nn

from advfool.interpreters import LRP, GradCAM, SimpleGrad
from advfool.interpreters.lrp import Composite, Epsilon
from advfool.interpreters.tracing.recording import record
from advfool.interpreters.tracing.sites import IMAGES, Site
from advfool.interpreters.tracing.tracer import trace
from advfool.utilities.errors import AdvfoolError

EPSILON = Composite(convolution=Epsilon(1e-3), linear=Epsilon(1e-3))  # reads outputs, which may be overwritten
PLACES = [
    ("vgg_tiny", "features.14"),
    ("vgg_tiny", "features.2"),  # an in-place ReLU
    ("resnet_tiny", "layer3.1"),
    ("resnet_tiny", "layer2"),
    ("densenet_tiny", "features.denseblock2.denselayer4"),
    ("densenet_tiny", "features.denseblock1.denselayer2"),
    ("densenet_tiny", "features.denseblock2"),
]


class Small(nn.Module):
    """Two convolutions, of which `forward` of the tests' networks makes something."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 5)
        self.double().eval()

    def forward(self, images):
        x = self.act(self.first(images))
        return self.head(self.act(self.second(x)).mean(dim=(2, 3)))


tiny_network = lru_cache(build_tiny)


def some_images(n=2, size=8):
    return torch.randn(n, 3, size, size, dtype=torch.float64)


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
        recording = record(network, images, readers)
        together = [reader.read(recording, targets) for reader in readers]
    assert len(calls) == 1
    torch.testing.assert_close(recording.logits, network(images))
    for ours, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


# Each form of overwriting with the network that it stands for: functions of the network, x and y.


def iadd(network, x, y):
    x += y
    return x


def isub(network, x, y):
    x -= 0.5
    return x


def itruediv(network, x, y):
    x /= 2
    return x


def imul_by_a_gate(network, x, y):
    x *= torch.sigmoid(y)
    return x


def discarded(network, x, y):
    x.relu_()
    return x


def discarded_function(network, x, y):
    F.relu(x, inplace=True)
    return x


def discarded_module(network, x, y):
    network.act(x)
    return x


def discarded_leaky_relu(network, x, y):
    F.leaky_relu_(x, 0.2)
    return x


def discarded_elu(network, x, y):
    F.elu_(x)
    return x


def discarded_hardtanh(network, x, y):
    F.hardtanh_(x)
    return x


def method_under_two_names(network, x, y):
    other = x
    x = x.relu_()
    return x + 0.5 * other


def module_under_two_names(network, x, y):
    other = x
    return network.act(x) + 0.5 * other


def iadd_under_two_names(network, x, y):
    other = x
    x += y
    return x * 0.5 + other


def imul_under_two_names(network, x, y):
    other = x
    x *= 3
    return x + other * 0.5


def view_of_what_is_overwritten(network, x, y):
    flat = x.flatten(2)
    x.relu_()
    return flat.unflatten(2, (8, 8))


def view_is_overwritten(network, x, y):
    x.flatten(2).relu_()
    return x


def part_is_overwritten(network, x, y):
    x.chunk(2, 1)[0].relu_()
    return x


def used_before(network, x, y):
    before = x * 2
    x.relu_()
    return x + before


FORMS = {
    "F.relu(x, True)": (lambda n, x, y: F.relu(x, True), lambda n, x, y: F.relu(x)),
    "F.relu(x, inplace=True)": (lambda n, x, y: F.relu(x, inplace=True), lambda n, x, y: F.relu(x)),
    "F.relu(input=x, inplace=True)": (lambda n, x, y: F.relu(input=x, inplace=True), lambda n, x, y: F.relu(x)),
    "F.relu_(x)": (lambda n, x, y: F.relu_(x), lambda n, x, y: F.relu(x)),
    "torch.relu_(x)": (lambda n, x, y: torch.relu_(x), lambda n, x, y: F.relu(x)),
    "F.leaky_relu_(x)": (lambda n, x, y: F.leaky_relu_(x, 0.2), lambda n, x, y: F.leaky_relu(x, 0.2)),
    "F.hardswish(x, True)": (lambda n, x, y: F.hardswish(x, True), lambda n, x, y: F.hardswish(x)),
    "x.relu_()": (lambda n, x, y: x.relu_(), lambda n, x, y: x.relu()),
    "x.tanh_()": (lambda n, x, y: x.tanh_(), lambda n, x, y: x.tanh()),
    "x.add_(y)": (lambda n, x, y: x.add_(y), lambda n, x, y: x + y),
    "x.mul_(gate)": (lambda n, x, y: x.mul_(y.sigmoid()), lambda n, x, y: x * y.sigmoid()),
    "x += y": (iadd, lambda n, x, y: x + y),
    "x -= 0.5": (isub, lambda n, x, y: x - 0.5),
    "x /= 2": (itruediv, lambda n, x, y: x / 2),
    "x *= gate": (imul_by_a_gate, lambda n, x, y: x * torch.sigmoid(y)),
    "nn.ReLU(inplace=True)": (lambda n, x, y: n.act(x), lambda n, x, y: F.relu(x)),
    "discarded x.relu_()": (discarded, lambda n, x, y: F.relu(x)),
    "discarded F.relu": (discarded_function, lambda n, x, y: F.relu(x)),
    "discarded module": (discarded_module, lambda n, x, y: F.relu(x)),
    "discarded F.leaky_relu_": (discarded_leaky_relu, lambda n, x, y: F.leaky_relu(x, 0.2)),
    "discarded F.elu_": (discarded_elu, lambda n, x, y: F.elu(x)),
    "discarded F.hardtanh_": (discarded_hardtanh, lambda n, x, y: F.hardtanh(x)),
    "x.relu_() under two names": (method_under_two_names, lambda n, x, y: x.relu() + 0.5 * x.relu()),
    "nn.ReLU under two names": (module_under_two_names, lambda n, x, y: x.relu() + 0.5 * x.relu()),
    "x += y under two names": (iadd_under_two_names, lambda n, x, y: (x + y) * 0.5 + (x + y)),
    "x *= 3 under two names": (imul_under_two_names, lambda n, x, y: x * 3 + x * 3 * 0.5),
    "used before": (used_before, lambda n, x, y: x.relu() + x * 2),
}


def network_with(form):
    class Formed(Small):
        def forward(self, images):
            x = self.first(images)
            y = F.relu(self.second(F.relu(x)))
            return self.head(form(self, x, y).mean(dim=(2, 3)))

    return Formed()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("grad", [True, False])
def test_in_place_operations(form, grad):
    overwriting, plain = (network_with(function) for function in FORMS[form])
    images = some_images()
    with torch.no_grad():
        logits = overwriting(images)
    torch.testing.assert_close(plain(images), logits)
    for interpreter in (LRP(normalise="none"), LRP(composite=EPSILON, normalise="none")):
        with torch.set_grad_enabled(grad):
            recording = record(overwriting, images, [interpreter])
            heatmaps = interpreter.read(recording, 1)
            expected = interpreter(plain, images, 1)
        torch.testing.assert_close(recording.logits.detach(), logits, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(heatmaps, expected, rtol=1e-8, atol=1e-12)
        assert heatmaps.std() > 0
        if grad:
            ours, theirs = (
                torch.autograd.grad(maps.square().sum(), network.first.weight)[0]
                for maps, network in ((heatmaps, overwriting), (expected, plain))
            )
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("form", [view_of_what_is_overwritten, view_is_overwritten, part_is_overwritten])
def test_overwriting_what_is_used_through_a_view_is_refused(form):
    network, images = network_with(form), some_images()
    with pytest.raises(AdvfoolError, match=r"LRP cannot follow '\w+', which overwrites values that '\w+' shares"):
        LRP()(network, images, 1)


@pytest.mark.parametrize("grad", [True, False])
def test_the_images_are_not_overwritten(grad):
    class OverwritesImages(Small):
        def forward(self, images):
            images.mul_(2)
            return super().forward(images)

    class Doubles(Small):
        def forward(self, images):
            return super().forward(images * 2)

    images = some_images()
    before = images.clone()
    with torch.set_grad_enabled(grad):
        recording = record(OverwritesImages(), images, [LRP()])
        heatmaps = LRP().read(recording, 1)
    torch.testing.assert_close(images, before, rtol=0, atol=0)
    torch.testing.assert_close(recording.logits, Doubles()(before))
    torch.testing.assert_close(heatmaps, LRP()(Doubles(), before, 1))


# What cannot be recorded


class Deciding(Small):
    def forward(self, images):
        x = self.first(images)
        if x.sum() > -1e9:
            x = self.act(x)
        return self.head(self.act(self.second(x)).mean(dim=(2, 3)))


def test_an_untraceable_network_is_refused_for_lrp_and_works_for_gradients():
    network, images = Deciding(), some_images()
    with pytest.raises(AdvfoolError) as error:
        LRP()(network, images, 1)
    assert str(error.value).startswith("Deciding cannot be traced by torch.fx, which LRP needs: ")
    assert str(error.value).endswith("Gradient-based interpreters (gradcam, simplegrad, ...) work without.")
    for interpreter in (GradCAM("second"), SimpleGrad()):
        torch.testing.assert_close(interpreter(network, images, 1), interpreter(Small(), images, 1))


class WithDefaults(Small):
    def forward(self, images, temperature=2.0, scaled=True):
        logits = super().forward(images)
        return logits / temperature if scaled else logits


def test_arguments_with_defaults_keep_them():
    class Without(Small):
        def forward(self, images):
            return super().forward(images) / 2.0

    images = some_images()
    torch.testing.assert_close(record(WithDefaults(), images, [LRP()]).logits, Without()(images))
    torch.testing.assert_close(LRP()(WithDefaults(), images, 1), LRP()(Without(), images, 1))


def test_a_network_that_returns_several_values_is_refused():
    class Two(Small):
        def forward(self, images):
            logits = super().forward(images)
            return logits, logits * 2

    with pytest.raises(AdvfoolError):
        LRP()(Two(), some_images(), 1)


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


# The trace and its cache


def test_the_trace_is_made_once():
    network = Small()
    first = trace(network, {Site("second")})
    assert trace(network, {Site("second")}) is first
    assert trace(network, {Site("first")}) is not first
    assert trace(copy.deepcopy(network), {Site("second")}) is not first


def test_a_replaced_module_is_traced_again():
    network, images = Small(), some_images()
    before = LRP()(network, images, 1)
    network.act = nn.Tanh()
    expected = LRP()(copy.deepcopy(network), images, 1)
    torch.testing.assert_close(LRP()(network, images, 1), expected)
    assert (expected - before).abs().max() > 1e-3
    network.second = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1)).double()
    torch.testing.assert_close(record(network, images, [LRP()]).logits, network(images))
    assert LRP("second.2")(network, images, 1).shape == (2, 8, 8)


def test_a_changed_weight_is_used_without_a_new_trace():
    network, images = Small(), some_images()
    LRP()(network, images, 1)
    known = trace(network, {IMAGES})
    with torch.no_grad():
        network.first.weight.neg_()
    network.second.weight = nn.Parameter(torch.randn_like(network.second.weight))
    assert trace(network, {IMAGES}) is known
    torch.testing.assert_close(LRP()(network, images, 1), LRP()(copy.deepcopy(network), images, 1))


def test_another_mode_is_traced_again():
    class TwoModes(Small):
        def forward(self, images):
            logits = super().forward(images)
            return -logits if self.training else logits

    network, images = TwoModes(), some_images()
    torch.testing.assert_close(record(network, images, [LRP()]).logits, network(images))
    network.train()
    with pytest.raises(AdvfoolError, match="no rule for neg"):
        LRP()(network, images, 1)
    network.eval()
    torch.testing.assert_close(LRP()(network, images, 1), LRP()(Small(), images, 1))


def test_the_cache_does_not_keep_networks():
    network = Small()
    LRP("second")(network, some_images(), 1)
    GradCAM("second")(network, some_images(), 1)
    reference = weakref.ref(network)
    del network
    gc.collect()
    assert reference() is None
