"""What functions, hooks and objects read from outside steers the forward pass, too."""

import functools
import os
import types

import pytest
import torch
from torch import nn

from advfool.interpreters import LRP, GradCAM, SimpleGrad
from advfool.interpreters.tracing.recording import record

OPTIONS = {"factor": 2.0}


class Flags:
    factor = 2.0


class Slots:
    __slots__ = ("factor",)


class Hook:
    def __init__(self):
        self.factor = 2.0

    def scale(self, module, args, output):
        return output * self.factor


def number(value):
    return torch.tensor(value, dtype=torch.double)


def with_default(net, v, factor=2.0):
    return v * factor


def helped(v):
    return v * helped.factor


class Net(nn.Module):
    """Two convolutions around `middle`."""

    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.middle = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), middle
        self.held, self.slots, self.hook = [number(2.0)], Slots(), Hook()
        self.slots.factor = 2.0
        self.double()

    def forward(self, x):
        return self.b(self.middle(self, self.a(x).relu())).mean((2, 3))


def images():
    return torch.randn(2, 3, 12, 12, dtype=torch.double, generator=torch.Generator().manual_seed(1))


BOX = [number(2.0)]
KINDS = {
    "tensor in a list": (lambda net, v: v * net.held[0], lambda net: net.held.__setitem__(0, number(-3.0))),
    "global dict": (lambda net, v: v * OPTIONS["factor"], lambda net: OPTIONS.update(factor=-3.0)),
    "global class": (lambda net, v: v * Flags.factor, lambda net: setattr(Flags, "factor", -3.0)),
    "global tensor": (lambda net, v: v * BOX[0], lambda net: BOX.__setitem__(0, number(-3.0))),
    "slots": (lambda net, v: v * net.slots.factor, lambda net: setattr(net.slots, "factor", -3.0)),
    "default": (with_default, lambda net: setattr(with_default, "__defaults__", (-3.0,))),
    "function's attribute": (lambda net, v: helped(v), lambda net: setattr(helped, "factor", -3.0)),
    "partial": (functools.partial(with_default, factor=2.0), lambda net: net.middle.keywords.update(factor=-3.0)),
    "environment": (
        lambda net, v: v * float(os.environ["FACTOR"]),
        lambda net: os.environ.update(FACTOR="-3.0"),
    ),
    "object of a hook": (lambda net, v: v, lambda net: setattr(net.hook, "factor", -3.0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_is_stale_when_what_its_code_reads_changed(kind, monkeypatch):
    monkeypatch.setenv("FACTOR", "2.0")
    monkeypatch.setitem(OPTIONS, "factor", 2.0)
    monkeypatch.setattr(Flags, "factor", 2.0)
    monkeypatch.setattr(helped, "factor", 2.0, raising=False)
    monkeypatch.setattr(with_default, "__defaults__", (2.0,))
    monkeypatch.setattr(f"{__name__}.BOX", [number(2.0)])
    middle, change = KINDS[kind]
    net, x = Net(middle), images()
    net.a.register_forward_hook(net.hook.scale)
    before = logits(net, x)
    change(net)
    assert (logits(net, x) - before).abs().max() > 1e-3


def logits(net, x):
    found = record(net, x, [LRP()]).logits.detach()
    torch.testing.assert_close(found, net(x).detach(), rtol=0, atol=1e-12)
    return found


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook"])
def test_hooks_of_all_modules_are_part_of_the_network(kind):
    net, x = Net(lambda net, v: v), images()
    before = logits(net, x)
    register = getattr(nn.modules.module, f"register_module_{kind}")

    def tripled(module, args, output=None):
        return (args[0] * 3,) if output is None else output * 3

    handle = register(tripled)
    try:
        after = logits(net, x)
    finally:
        handle.remove()
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(logits(net, x), before)


def test_a_class_that_does_more_in_a_call():
    class Called(Net):
        def __call__(self, x):
            return super().__call__(2 * x)

    x = images()
    net = Called(lambda net, v: v)
    logits(net, x)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    found = SimpleGrad(normalise="none")(net, x.detach(), 1)
    torch.testing.assert_close(found.detach(), expected.abs().sum(1))


@pytest.mark.parametrize("way", ["module", "in place", "forward"])
def test_compiled_networks(way):
    plain, net, x = (*(Net(lambda net, v: v) for _ in range(2)), images())
    if way == "in place":
        net.compile(backend="eager")
    elif way == "forward":
        net.forward = torch.compile(net.forward, backend="eager")
    else:
        net = torch.compile(net, backend="eager")
    layer = "_orig_mod.b" if way == "module" else "b"
    net(x)  # compiled before any hook is there
    logits(net, x)
    maps = [GradCAM(name, normalise="none")(which, x, 1) for name, which in (("b", plain), (layer, net))]
    torch.testing.assert_close(*maps)


def test_objects_that_hold_themselves():
    holder = types.SimpleNamespace(again=None)
    holder.again = holder  # a circle
    net = Net(lambda net, v: v)
    net.circle = holder
    logits(net, images())
