"""Operations that overwrite what is still needed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import stochastic_depth

from advfool.interpreters import LRP
from advfool.interpreters.lrp import Composite, Epsilon
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from tests.helpers.small_networks import Small, some_images

EPSILON = Composite(convolution=Epsilon(1e-3), linear=Epsilon(1e-3))  # reads outputs, which may be overwritten


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


def through_another_name(rename):
    """A tensor that is overwritten under another name and used under its own, and under a third, afterwards."""

    def overwriting(network, x, y):
        other, third = rename(x), nn.Identity()(x)
        other.relu_()
        return x + 0.5 * other + third

    return overwriting


def residual_of(rename):
    """The input beside a block that overwrites it: the sum is of the overwritten values."""
    return lambda network, x, y: x + F.relu(rename(x), inplace=True)


def viewed_after(network, x, y):
    x.relu_()
    return x.flatten(2).unflatten(2, (8, 8))


def used_before(network, x, y):
    before = x * 2
    x.relu_()
    return x + before


SAME = {
    "dropout": nn.Dropout2d().eval(),
    "identity": nn.Identity(),
    "F.dropout": lambda x: F.dropout(x, 0.5, False),
    "F.alpha_dropout": lambda x: F.alpha_dropout(x),
    "F.dropout2d": lambda x: F.dropout2d(x, training=False),
    "stochastic_depth": lambda x: stochastic_depth(x, 0.5, "row", training=False),
    "twice": lambda x: F.dropout(nn.Identity()(x), training=False),
}
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
    **{
        f"{form.__name__}, {name}": (form(rename), plain)
        for form, plain in (
            (through_another_name, lambda n, x, y: x.relu() + 0.5 * x.relu() + x.relu()),
            (residual_of, lambda n, x, y: x.relu() + x.relu()),
        )
        for name, rename in SAME.items()
    },
    "viewed after": (viewed_after, lambda n, x, y: F.relu(x)),
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


@pytest.mark.parametrize(
    "form",
    [
        view_of_what_is_overwritten,
        view_is_overwritten,
        part_is_overwritten,
        residual_of(lambda x: x.data),  # autograd does not see what is overwritten
        residual_of(lambda x: x.detach()),
    ],
)
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
