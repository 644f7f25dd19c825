"""Networks that a recording, its second derivatives or LRP could get wrong without a word."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.ops import FrozenBatchNorm2d

from advfool.interpreters import LRP, GradCAM, GuidedBackprop, IntegratedGradients, SimpleGrad, SmoothGrad
from advfool.interpreters.lrp import Composite, Epsilon
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from tests.helpers.gradients import gradients
from tests.helpers.networks import build_tiny


def images(n=2, size=16):
    return torch.randn(n, 3, size, size, dtype=torch.float64)


class Head(nn.Module):
    """A convolution, whatever `middle` makes of it, and a second convolution."""

    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.middle = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), middle
        self.weight = nn.Parameter(torch.randn(6, 6, 3, 3))
        self.double()

    def forward(self, x):
        return self.b(self.middle(self, self.a(x).relu())).mean(dim=(2, 3))


def lrp_of(middle):
    return LRP(normalise="none")(Head(middle), images_of_seed(), 1)


def images_of_seed():
    torch.manual_seed(5)
    return images()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda n, x: x + (-0.5), lambda n, x: x - 0.5),
        (lambda n, x: torch.add(x, x.relu(), alpha=3), lambda n, x: x + x.relu() * 3),
        (lambda n, x: torch.cat(x.chunk(2, 1), 1), lambda n, x: x),
        (
            lambda n, x: x.mean((2, 3), keepdim=True) * x.sigmoid(),
            lambda n, x: x.mean((2, 3), keepdim=True).expand_as(x),
        ),
    ],
)
def test_lrp_of_two_ways_to_write_the_same(one, other):
    if "sigmoid" in one.__code__.co_names:
        assert lrp_of(one).isfinite().all()  # a gate larger than what it gates
        return
    torch.testing.assert_close(lrp_of(one), lrp_of(other), atol=1e-12, rtol=1e-5)


def test_weights_made_from_activations_keep_their_path_to_the_images():
    network, x = Head(lambda n, x: F.conv2d(x, n.weight * x.mean())), images_of_seed()
    trained = SimpleGrad(normalise="none")(network, x, 1).detach()
    with torch.no_grad():
        measured = SimpleGrad(normalise="none")(network, x, 1)
    torch.testing.assert_close(trained, measured)


def test_checkpointed_regions():
    torch.manual_seed(0)
    network = DenseNet(8, (2, 2), 16, num_classes=5, memory_efficient=True).double().eval()
    plain = DenseNet(8, (2, 2), 16, num_classes=5).double().eval()
    plain.load_state_dict(network.state_dict())
    for interpreter in (SimpleGrad(), GradCAM("features.denseblock2.denselayer2")):
        torch.manual_seed(1)
        x = images(size=32)
        maps = [interpreter(net, x, 1) for net in (network, plain)]
        torch.testing.assert_close(*maps)
        found = [gradients(net, m) for net, m in zip((network, plain), maps, strict=True)]
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(
                torch.zeros(()).double() if a is None else a, torch.zeros(()).double() if b is None else b
            )


def test_frozen_batch_norm_follows_its_buffers_and_leaves_nothing_behind():
    torch.manual_seed(0)
    frozen = torchvision.models.resnet18(num_classes=5, norm_layer=FrozenBatchNorm2d).double().eval()
    plain = torchvision.models.resnet18(num_classes=5).double().eval()
    for network in (frozen, plain):
        for module in network.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = 1e-5
    before = set(vars(frozen))
    LRP()(frozen, images(size=32), 1)
    assert set(vars(frozen)) == before
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_var.uniform_(0.5, 2)
    frozen.load_state_dict({k: v for k, v in plain.state_dict().items() if "num_batches" not in k})
    x = images(size=32)
    recording = record(frozen, x, [LRP()])
    torch.testing.assert_close(recording.logits, plain(x))
    torch.testing.assert_close(LRP().read(recording, 1), LRP()(plain, x, 1))


def test_constants_of_the_forward_pass_are_not_left_on_the_network():
    network = Head(lambda n, x: x * torch.tensor(2.0))
    before = set(vars(network))
    maps = LRP(normalise="none")(network, images_of_seed(), 1)
    assert set(vars(network)) == before
    torch.testing.assert_close(maps, lrp_of(lambda n, x: x * 2.0))


class MyConv(nn.Conv2d):
    pass


def test_a_rule_for_a_convolution_holds_where_a_batch_norm_is_folded_into_it():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), MyConv(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 3)
    )
    network = network.double().eval()
    x = images()
    plain = LRP(normalise="none")(network, x, 1)
    by_key = LRP(normalise="none", rules={nn.Conv2d: Epsilon(0.5)})(network, x, 1)
    by_kind = LRP(normalise="none", composite=Composite(convolution=Epsilon(0.5)))(network, x, 1)
    torch.testing.assert_close(by_key, by_kind)
    assert (by_key - plain).abs().max() > 1e-3 * plain.abs().max()
    own = LRP(normalise="none", rules={MyConv: Epsilon(0.5)})(network, x, 1)
    assert (own - plain).abs().max() > 1e-3 * plain.abs().max()
    assert (own - by_key).abs().max() > 1e-3 * plain.abs().max()


def test_weight_norm_is_followed():
    torch.manual_seed(0)
    plain = Head(lambda n, x: x)
    normed = Head(lambda n, x: x)
    nn.utils.parametrizations.weight_norm(normed.b)
    x = images_of_seed()
    torch.testing.assert_close(LRP()(normed, x, 1), LRP()(plain, x, 1))


class KeptView(nn.Module):
    """Dropout hands on its very input, which an in-place ReLU overwrites afterwards."""

    def __init__(self, inplace):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)
        self.drop, self.relu, self.inplace = nn.Dropout(), nn.ReLU(inplace), inplace
        self.double()

    def forward(self, x):
        y = self.a(x)
        z = self.b(self.drop(y))
        y = self.relu(y)
        return self.c(y + z).mean(dim=(2, 3))


@pytest.mark.parametrize("grad", [True, False])
def test_a_kept_value_is_not_overwritten_through_its_other_name(grad):
    x = images_of_seed()
    with torch.set_grad_enabled(grad):
        maps = [LRP(normalise="none")(KeptView(inplace).eval(), x, 1) for inplace in (True, False)]
    torch.testing.assert_close(*maps)


def test_targets_changed_in_place_are_noticed():
    network, _ = build_tiny("resnet_tiny")
    x, targets = torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 1])
    recording = record(network, x, [SimpleGrad()])
    first = SimpleGrad().read(recording, targets)
    targets.fill_(3)
    second = SimpleGrad().read(recording, targets)
    torch.testing.assert_close(second, SimpleGrad()(network, x, 3))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "interpreter",
    [
        SimpleGrad(),
        SmoothGrad(samples=3, chunk=2),
        SmoothGrad(LRP(), samples=3, chunk=2),
        IntegratedGradients(steps=3, chunk=2),
        IntegratedGradients("layer3.1", steps=3, chunk=2),
        GuidedBackprop(),
        LRP(),
    ],
)
def test_inference_mode(interpreter):
    network, _ = build_tiny("resnet_tiny")
    x = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    expected = interpreter(network, x, 1).detach()
    with torch.inference_mode():
        torch.testing.assert_close(interpreter(network, x, 1), expected)
        torch.testing.assert_close(interpreter(network, x.clone(), 1), expected)


@pytest.mark.parametrize("chunk", [1, 4])
def test_smoothgrad_hands_gradients_to_the_images(chunk):
    network, _ = build_tiny("resnet_tiny")
    x = torch.randn(2, 3, 56, 56, dtype=torch.float64, requires_grad=True)
    heatmaps = SmoothGrad(LRP("layer3.1"), samples=4, chunk=chunk)(network, x, 1)
    found = torch.autograd.grad(heatmaps.square().sum(), x)[0]
    assert found.abs().sum() > 0


def test_bounded_passes_run_again_under_the_same_autocast_and_dropout():
    network, layer = build_tiny("resnet_tiny", torch.float32)
    network.fc = nn.Sequential(nn.Dropout(0.5).train(), network.fc)
    x = torch.randn(2, 3, 56, 56)
    for bounded in (SmoothGrad(samples=4, chunk=2), IntegratedGradients(layer, steps=4, chunk=2)):
        with torch.autocast("cpu", torch.bfloat16):
            loss = bounded(network, x, 1).float().square().mean()
        loss.backward()
        assert network.conv1.weight.grad.abs().sum() > 0
        network.zero_grad()
    # Without replayed dropout the gradient would belong to another network than the map.
    bounded = SmoothGrad(samples=3, chunk=1, normalise="none")
    weight = network.conv1.weight.data
    direction = torch.randn_like(weight)

    def loss():
        torch.manual_seed(4)
        return bounded(network, x, 1).sum()

    analytic = (torch.autograd.grad(loss(), network.conv1.weight)[0] * direction).sum().item()
    network.double()
    x, direction, values = x.double(), direction.double(), []
    for step in (1e-7, -1e-7):
        network.conv1.weight.data += step * direction
        values.append(loss().item())
        network.conv1.weight.data -= step * direction
    assert analytic == pytest.approx((values[0] - values[1]) / 2e-7, rel=1e-2)


def test_bad_targets_are_told():
    network, _ = build_tiny("resnet_tiny")
    x = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    with pytest.raises(AdvfoolError, match=r"Expected targets from 0 to 9 \(the network has 10 outputs\), got 10"):
        SimpleGrad()(network, x, 10)
    with pytest.raises(AdvfoolError, match="Expected a target for each of 2 images, or one for all, got 3"):
        record(network, x).classes(torch.arange(3))
    with pytest.raises(AdvfoolError, match="baseline: expected one number or 3"):
        IntegratedGradients(baseline=(0.0, 1.0))(network, x, 1)
