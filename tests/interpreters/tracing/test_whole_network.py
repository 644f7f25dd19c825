"""The network is what `network(x)` computes: hooks, wrappers, whatever its code asks of shapes, and later changes."""

import math
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from advfool.interpreters import LRP, SimpleGrad
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError

NUMBER = 1


class Net(nn.Module):
    """A convolution, `middle`, a convolution, the mean."""

    def __init__(self, middle=lambda net, v: v):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.middle, self.skip, self.options = middle, False, types.SimpleNamespace(skip=False, depths=[1])
        self.hidden = [nn.Conv2d(6, 6, 1)]  # in a plain list, so not registered
        self.double().hidden[0].double()

    def forward(self, x):
        return self.b(self.middle(self, self.a(x).relu())).mean((2, 3))


def images(*shape):
    return torch.randn(shape or (2, 3, 12, 12), dtype=torch.double, generator=torch.Generator().manual_seed(1))


def check(network, x):
    """Check that the recorded logits are the network's, and return the map."""
    torch.testing.assert_close(record(network, x, [LRP()]).logits, network(x), rtol=0, atol=1e-12)
    return LRP(normalise="none")(network, x, 1).detach()


def cut(value):
    return value[..., :7]


# Hooks, replaced methods and wrappers

ROOT = {
    "pre-hook": lambda net: net.register_forward_pre_hook(lambda module, args: (args[0][..., :10],)),
    "hook": lambda net: net.register_forward_hook(lambda module, args, output: output[:, 1:]),
    "hook of a layer": lambda net: net.a.register_forward_hook(lambda module, args, output: cut(output)),
    "pre-hook of a layer": lambda net: net.b.register_forward_pre_hook(lambda module, args: (cut(args[0]),)),
    "hook with keywords": lambda net: net.b.register_forward_pre_hook(
        lambda module, args, kwargs: ((cut(args[0]),), kwargs), with_kwargs=True
    ),
    "hook in place": lambda net: net.b.register_forward_hook(lambda module, args, output: output.relu_()),
    "forward": lambda net: setattr(net, "forward", lambda x: type(net).forward(net, x[..., :9])),
    "forward of a layer": lambda net: setattr(net.a, "forward", lambda x: F.conv2d(cut(x), net.a.weight)),
}


@pytest.mark.parametrize("kind", ROOT)
def test_hooks_and_replaced_methods_are_part_of_the_network(kind):
    net, x = Net(), images()
    before = check(net, x)
    ROOT[kind](net)
    after = check(net, x)
    assert (after - before).abs().max() > 1e-6


def test_a_map_at_the_images_is_one_of_what_the_caller_passes():
    """A hook of the root turns the images: the gradient is that of the whole, sign included."""
    net, turned, x = Net(), Net(), images()
    turned.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    grad = SimpleGrad(normalise="none", times_input=True)
    torch.testing.assert_close(grad(turned, x, 1), grad(net, 2 * x, 1))
    torch.testing.assert_close(LRP(normalise="none")(turned, x, 1), LRP(normalise="none")(net, 2 * x, 1))


def test_hooks_that_only_look_are_called_and_see_values():
    net, seen = Net(), []
    net.b.register_forward_hook(lambda module, args, output: seen.append(output))
    check(net, images())
    seen.clear()
    record(net, images(), [LRP()])
    assert [type(value) for value in seen] == [torch.Tensor]


WRAPPERS = {
    "sequential": nn.Sequential,
    "data parallel": nn.DataParallel,
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "weight norm of a layer": lambda net: (nn.utils.parametrizations.weight_norm(net.b), net)[1],
    "spectral norm of a layer": lambda net: (nn.utils.spectral_norm(net.b), net)[1].eval(),
    "pruned layer": lambda net: (prune.l1_unstructured(net.b, "weight", 0.5), net)[1],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WRAPPERS)
def test_wrappers(kind):
    check(WRAPPERS[kind](Net()), images())


def test_values_that_the_forward_pass_keeps_are_tensors():
    net = Net(lambda net, v: (setattr(net, "features", v), v)[1])
    record(net, images(), [LRP()])
    assert type(net.features) is torch.Tensor


# Code that asks for shapes and values

CODE = {
    "assert": lambda net, v: v if v.dim() == 4 and v.shape[1] == 6 else 1 / 0,
    "len": lambda net, v: v.reshape(len(v), 6, -1).reshape(v.shape),
    "int": lambda net, v: v[..., : int(v.shape[3]) - 2],
    "floor": lambda net, v: v[..., : math.floor(v.shape[3] * 0.7)],
    "kernel from a size": lambda net, v: F.avg_pool2d(v, v.shape[2] // 5),
    "range": lambda net, v: torch.stack([v[:, i] for i in range(v.shape[1])], 1),
    "loop over parts": lambda net, v: torch.cat([part.relu() for part in v.chunk(2, 1)], 1),
    "loop over images": lambda net, v: torch.stack([image.relu() for image in v]),
    "unpacked shape": lambda net, v: (lambda n, c, h, w: v.reshape(n, c * h, w).reshape(n, c, h, w))(*v.shape),
    "comparison of sizes": lambda net, v: v[:, :, :8] if v.shape[-1] == v.shape[-2] else v,
    "comparison of values": lambda net, v: v[:, :, :8] if v[0].mean() > v[-1].mean() else v,
    "instance": lambda net, v: v.relu() if isinstance(v, torch.Tensor) else 1 / 0,
    "text": lambda net, v: v if f"{v.shape[1]}" == "6" else v[:, :, :8],
    "device and type": lambda net, v: v * torch.ones(1, dtype=v.dtype, device=v.device).item(),
    "module made inside": lambda net, v: nn.AvgPool2d(2)(nn.ReLU()(v)),
    "module in a list": lambda net, v: net.hidden[0](v),
    "assignment": lambda net, v: assigned(v),
    "sizes for a constant": lambda net, v: v[:, :, :, torch.arange(v.shape[3] - 1)],
}


def assigned(v):
    v = v.clone()
    v[:, :2] = v[:, 2:4] * 2
    v[:, 4] = 0.5
    return v


@pytest.mark.parametrize("kind", CODE)
def test_code_that_asks_for_shapes(kind):
    """One network takes images of several sizes, one after the other."""
    net = Net(CODE[kind])
    for shape in ((2, 3, 12, 12), (3, 3, 12, 12), (1, 3, 14, 11), (2, 3, 12, 12)):
        x = images(*shape)
        torch.testing.assert_close(check(net, x), check(Net(CODE[kind]), x))


def test_a_graph_fits_batches_of_any_size():
    net = Net(CODE["len"])
    check(net, images())
    plain = Net(lambda net, v: v.flatten(2).reshape(v.shape))
    one = record(plain, images(2, 3, 12, 12), [LRP()]).trace
    assert record(plain, images(5, 3, 12, 12), [LRP()]).trace is one


# Changes after the first recording

STALE = {
    "attribute": lambda net: setattr(net, "skip", True),
    "object": lambda net: setattr(net.options, "skip", True),
    "list in an object": lambda net: net.options.depths.append(2),
    "function": lambda net: setattr(net, "middle", lambda net, v: cut(v)),
    "submodule": lambda net: setattr(net, "b", nn.Sequential(nn.Hardtanh(0, 0.1), net.b)),
    "setting of a submodule": lambda net: setattr(net.a, "stride", (2, 2)),
    "method of the class": lambda net: setattr(type(net), "extra", lambda self, v: cut(v)),
    "number outside": lambda net: globals().update(NUMBER=2),
}


def steered(net, v):
    if net.skip or net.options.skip or len(net.options.depths) > 1 or NUMBER == 2:
        return cut(v)
    return net.extra(v)


@pytest.mark.parametrize("kind", STALE)
def test_a_graph_is_stale_when_what_steers_the_forward_pass_changed(kind, monkeypatch):
    class Own(Net):
        def extra(self, v):
            return v

    monkeypatch.setitem(globals(), "NUMBER", 1)
    net, x = Own(steered), images()
    before = check(net, x)
    STALE[kind](net)
    after = check(net, x)
    assert (after - before).abs().max() > 1e-6


def test_a_graph_is_kept_where_nothing_changed():
    net = Net(steered)
    net.extra = lambda v: v
    x = images()
    one = record(net, x, [LRP()]).trace
    net.a.weight.data.mul_(2)
    net.a.bias = nn.Parameter(torch.zeros_like(net.a.bias))
    assert record(net, x, [LRP()]).trace is one


# What cannot be repeated


def test_random_numbers_of_the_forward_pass_are_refused():
    with pytest.raises(AdvfoolError, match="computes other logits than Net itself"):
        LRP()(Net(lambda net, v: v * float(torch.rand(1))), images(), 1)


def test_a_trace_draws_no_random_numbers():
    net = Net(lambda net, v: F.dropout(v, 0.5))
    torch.manual_seed(3)
    expected = net(images())
    torch.manual_seed(3)
    torch.testing.assert_close(record(net, images(), [LRP()]).logits, expected)
