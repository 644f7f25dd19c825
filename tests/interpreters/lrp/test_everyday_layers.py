"""Layers that users expect LRP to know, each against an equivalent network or what the rule's definition gives."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from advfool.interpreters import LRP
from advfool.interpreters.lrp import AlphaBeta, Composite, Epsilon, Gamma, Norm, Sum, ZPlus
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from tests.helpers.relevance import relative
from tests.helpers.small_networks import Between, some_images

IMAGES = some_images()


def maps(network, **options):
    options = {"normalise": "none", "stabiliser": 1e-12} | options
    torch.testing.assert_close(record(network, IMAGES, [LRP(**options)]).logits, network(IMAGES))
    return LRP(**options)(network, IMAGES, 1).detach()


def of(*layers):
    """Layers between the convolutions."""
    return lambda s, v: nn.Sequential(*layers).to(v).eval()(v)


INDEX = torch.arange(7, -1, -1)
GRID = F.affine_grid(torch.eye(2, 3).double().expand(2, 2, 3), [2, 4, 15, 15], align_corners=True)
MASK = torch.arange(8) % 3 > 0

# Each operation beside an equivalent one, or several, whose rules are tested elsewhere.
SAME = {
    "T": (lambda s, v: v.mT, lambda s, v: v.transpose(-1, -2)),
    "mH": (lambda s, v: v.mH, lambda s, v: v.transpose(-1, -2)),
    "T of a matrix": (lambda s, v: v.flatten(1).T.T.unflatten(1, (4, 8, 8)), lambda s, v: v),
    "H of a matrix": (lambda s, v: v.flatten(1).H.H.unflatten(1, (4, 8, 8)), lambda s, v: v),
    "data": (lambda s, v: v.data, lambda s, v: v),
    "real": (lambda s, v: v.real, lambda s, v: v),
    "detach": (lambda s, v: v.detach(), lambda s, v: v),
    "negation": (lambda s, v: -v, lambda s, v: v * -1),
    "torch.neg": (lambda s, v: torch.neg(v.neg()), lambda s, v: v),
    "number minus": (lambda s, v: 1 - v, lambda s, v: v * -1 + 1),
    "rsub": (lambda s, v: torch.rsub(v, 1), lambda s, v: v * -1 + 1),
    "ZeroPad2d": (of(nn.ZeroPad2d(1)), lambda s, v: F.pad(v, (1, 1, 1, 1))),
    "ConstantPad2d": (of(nn.ConstantPad2d((1, 0, 2, 0), 0.5)), lambda s, v: F.pad(v, (1, 0, 2, 0), value=0.5)),
    "ReflectionPad2d": (of(nn.ReflectionPad2d(2)), lambda s, v: F.pad(v, (2,) * 4, mode="reflect")),
    "reflection": (
        lambda s, v: F.pad(v, (2, 0, 0, 0), mode="reflect"),
        lambda s, v: torch.cat([v[..., 2:3], v[..., 1:2], v], 3),
    ),
    "ReplicationPad2d": (
        of(nn.ReplicationPad2d((0, 2, 0, 0))),
        lambda s, v: torch.cat([v, v[..., 7:], v[..., 7:]], 3),
    ),
    "CircularPad2d": (of(nn.CircularPad2d((1, 0, 0, 0))), lambda s, v: torch.cat([v[..., 7:], v], 3)),
    "constant padding": (
        lambda s, v: F.pad(v, (1, 0), value=2.0),
        lambda s, v: torch.cat([torch.full((2, 4, 8, 1), 2.0, dtype=v.dtype), v], 3),
    ),
    "Upsample": (
        of(nn.Upsample(scale_factor=2)),
        lambda s, v: v[:, :, INDEX.flip(0).repeat_interleave(2)].repeat_interleave(2, 3),
    ),
    "UpsamplingNearest2d": (of(nn.UpsamplingNearest2d(scale_factor=2)), of(nn.Upsample(scale_factor=2))),
    "interpolate": (lambda s, v: F.interpolate(v, scale_factor=2.0), of(nn.Upsample(scale_factor=2))),
    "bilinear": (
        lambda s, v: F.interpolate(v, (16, 16), mode="bilinear"),
        of(nn.Upsample((16, 16), mode="bilinear")),
    ),
    "UpsamplingBilinear2d": (
        of(nn.UpsamplingBilinear2d(scale_factor=2)),
        of(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
    ),
    "area": (lambda s, v: F.interpolate(v, (4, 4), mode="area"), lambda s, v: F.avg_pool2d(v, 2)),
    "PixelShuffle and back": (of(nn.PixelShuffle(2), nn.PixelUnshuffle(2)), lambda s, v: v),
    "pixel_unshuffle and back": (lambda s, v: F.pixel_shuffle(F.pixel_unshuffle(v, 2), 2), lambda s, v: v),
    "torch.flip": (lambda s, v: torch.flip(v, (2, 3)), lambda s, v: v[:, :, INDEX][:, :, :, INDEX]),
    "flip": (lambda s, v: v.flip(-1), lambda s, v: v.index_select(3, INDEX)),
    "roll": (lambda s, v: v.roll(2, 3), lambda s, v: torch.cat([v[..., 6:], v[..., :6]], 3)),
    "rot90": (lambda s, v: v.rot90(1, (2, 3)), lambda s, v: torch.rot90(v, 1, (2, 3))),
    "rot90 as flip": (lambda s, v: torch.rot90(v, 2, (2, 3)), lambda s, v: v.flip(2, 3)),
    "fliplr": (lambda s, v: torch.fliplr(v), lambda s, v: v.flip(1)),
    "flipud": (lambda s, v: v.transpose(0, 2).flipud().transpose(0, 2), lambda s, v: v.flip(2)),
    "gather": (lambda s, v: v.gather(3, INDEX.expand(2, 4, 8, 8)), lambda s, v: v.flip(3)),
    "take_along_dim": (lambda s, v: torch.take_along_dim(v, INDEX.view(1, 1, 1, 8), 3), lambda s, v: v.flip(3)),
    "where": (lambda s, v: torch.where(MASK, v, 0.0), lambda s, v: v.masked_fill(~MASK, 0.0)),
    "where of values": (lambda s, v: torch.where(MASK, v, v.flip(3)), lambda s, v: v.flip(3).where(~MASK, v)),
    "where of a comparison": (lambda s, v: torch.where(v > 0, v, 0.1 * v), of(nn.LeakyReLU(0.1))),
    "stack": (lambda s, v: torch.stack([v[:, 0], v[:, 1], v[:, 3], v[:, 2]], 1), lambda s, v: v[:, [0, 1, 3, 2]]),
    "hstack": (lambda s, v: torch.hstack([v[:, :2], v[:, 2:]]), lambda s, v: v),
    "unbind": (lambda s, v: torch.stack(v.unbind(1), 1), lambda s, v: v),
    "tile": (lambda s, v: v.tile(1, 1, 1, 2), lambda s, v: torch.cat([v, v], 3)),
    "repeat": (lambda s, v: v.repeat(1, 1, 2, 1), lambda s, v: torch.cat([v, v], 2)),
    "amax": (lambda s, v: v.amax((2, 3), keepdim=True), of(nn.AdaptiveMaxPool2d(1))),
    "values of a maximum": (lambda s, v: v.max(2).values.max(2)[0][..., None, None], of(nn.AdaptiveMaxPool2d(1))),
    "AdaptiveMaxPool1d": (
        lambda s, v: nn.AdaptiveMaxPool1d(1)(v.flatten(2))[..., None],
        of(nn.AdaptiveMaxPool2d(1)),
    ),
    "AdaptiveMaxPool3d": (lambda s, v: nn.AdaptiveMaxPool3d((4, 2, 2))(v[:, None])[:, 0], of(nn.AdaptiveMaxPool2d(2))),
    "topk": (lambda s, v: v.flatten(2).topk(1)[0][..., None], of(nn.AdaptiveMaxPool2d(1))),
    "divisor": (lambda s, v: F.avg_pool2d(v, 2, divisor_override=3), lambda s, v: F.avg_pool2d(v, 2) * (4 / 3)),
    "keepdim": (lambda s, v: v.mean((2, 3), keepdim=True), of(nn.AdaptiveAvgPool2d(1))),
    "sum": (lambda s, v: v.sum((2, 3), keepdim=True) / 64, of(nn.AdaptiveAvgPool2d(1))),
    "AvgPool3d": (lambda s, v: F.avg_pool3d(v, (1, 2, 2)), of(nn.AvgPool2d(2))),
    "unfold": (lambda s, v: F.fold(F.unfold(v, 2, stride=2), (8, 8), 2, stride=2), lambda s, v: v),
    "clamp": (lambda s, v: v.clamp(min=0), of(nn.ReLU())),
    "pow": (lambda s, v: v.relu().pow(2), lambda s, v: v.relu().square()),
    "**": (lambda s, v: v.relu() ** 0.5, lambda s, v: v.relu().sqrt()),
    "mean of powers": (
        lambda s, v: F.avg_pool2d(v.relu().clamp(min=1e-3).pow(2), 2).pow(0.5),
        lambda s, v: F.avg_pool2d(v.relu().clamp(min=1e-3).square(), 2).sqrt(),
    ),
    "SELU": (of(nn.SELU()), lambda s, v: torch.selu(v)),
    "Threshold": (of(nn.Threshold(0.1, 0.0)), lambda s, v: F.threshold(v, 0.1, 0.0)),
    "dropout": (
        of(nn.Flatten(2), nn.Dropout1d(), nn.Unflatten(2, (8, 8)), nn.AlphaDropout(), nn.FeatureAlphaDropout()),
        lambda s, v: v,
    ),
    "functional dropout": (
        lambda s, v: F.dropout3d(F.dropout2d(v, training=False)[:, None], training=False)[:, 0],
        lambda s, v: v,
    ),
    "difference": (lambda s, v: v - v.roll(1, 3), lambda s, v: v + -v.roll(1, 3)),
    "grid": (
        lambda s, v: F.grid_sample(v, GRID, align_corners=True),
        lambda s, v: F.interpolate(v, (15, 15), mode="bilinear", align_corners=True),
    ),
    "nearest of a grid": (
        lambda s, v: F.grid_sample(v, GRID[:, ::2, ::2].flip(1), mode="nearest", align_corners=True),
        lambda s, v: v.flip(2),
    ),
    "fractional maximum": (
        lambda s, v: F.fractional_max_pool2d(v, 2, (4, 4), None, False, torch.zeros(2, 4, 2, dtype=v.dtype)),
        lambda s, v: v.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)),
    ),
    "transforms in forward": (
        lambda s, v: v2.functional.hflip(v2.functional.normalize(v, [0.0] * 4, [2.0] * 4)),
        lambda s, v: v.flip(3) / 2,
    ),
    "blend with a constant": (lambda s, v: torch.lerp(v, torch.ones_like(v), 0.25), lambda s, v: v * 0.75 + 0.25),
    "split with sizes": (lambda s, v: torch.cat(v.split_with_sizes([1, 3], 1), 1), lambda s, v: v),
    "filled": (lambda s, v: v.new_zeros(v.shape).copy_(v), lambda s, v: v),
    "gate": (
        lambda s, v: v * (1 + v.mean((2, 3), keepdim=True).sigmoid()),
        lambda s, v: v * (1 + v.mean((2, 3), keepdim=True).sigmoid().view(2, 4, 1, 1)),
    ),
}


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1_flat"])
@pytest.mark.parametrize("name", SAME)
def test_has_the_same_map_as_an_equivalent_network(name, composite):
    ours, other = SAME[name]
    network, equivalent = Between(ours), Between(other)
    torch.testing.assert_close(network(IMAGES), equivalent(IMAGES))
    found = maps(network, composite=composite)
    assert found.std() > 0
    torch.testing.assert_close(found, maps(equivalent, composite=composite), rtol=1e-6, atol=1e-9)


PASSING = {
    **{
        name: getattr(nn, name)()
        for name in (
            "SELU", "CELU", "RReLU", "ELU", "Softsign", "LogSigmoid", "Tanhshrink", "Hardshrink", "Softshrink", "Hardswish",
            "Mish", "GELU", "SiLU", "Softplus", "Tanh", "PReLU", "LeakyReLU", "Hardtanh",
        )
    },
    "Threshold": nn.Threshold(0.1, 0.2),
    "InstanceNorm2d": nn.InstanceNorm2d(4, affine=True),
    "GroupNorm": nn.GroupNorm(2, 4),
    "RMSNorm": nn.RMSNorm(8),
    "LocalResponseNorm": nn.LocalResponseNorm(2),
}  # fmt: skip
FUNCTIONS = {
    "SELU": F.selu, "CELU": F.celu, "RReLU": F.rrelu, "ELU": F.elu, "Softsign": F.softsign, "LogSigmoid": F.logsigmoid,
    "Tanhshrink": F.tanhshrink, "Hardshrink": F.hardshrink, "Softshrink": F.softshrink, "Hardswish": F.hardswish,
    "Mish": F.mish, "GELU": F.gelu, "SiLU": F.silu, "Softplus": F.softplus, "Tanh": F.tanh, "LeakyReLU": F.leaky_relu,
    "Hardtanh": F.hardtanh, "Threshold": lambda v: F.threshold(v, 0.1, 0.2), "InstanceNorm2d": F.instance_norm,
    "GroupNorm": lambda v: F.group_norm(v, 2), "RMSNorm": lambda v: F.rms_norm(v, (8,)),
    "LocalResponseNorm": lambda v: F.local_response_norm(v, 2),
}  # fmt: skip


class Wrapper(nn.Module):
    """A module that is given a rule as a whole."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


class Around(Between):
    """A network with one module between its convolutions."""

    def __init__(self, middle, channels=4):
        super().__init__(lambda s, v: s.middle(v), channels)
        self.middle = middle
        self.double().eval()


@pytest.mark.parametrize("name", PASSING)
def test_activations_and_normalisations_pass_relevance(name):
    module = PASSING[name]
    found, expected = maps(Around(module)), maps(Around(Wrapper(module)), rules={Wrapper: "pass"})
    torch.testing.assert_close(found, expected)
    if name in FUNCTIONS:
        torch.testing.assert_close(maps(Between(lambda s, v: FUNCTIONS[name](v))), expected)


def equivalent_linear(module, size, d):
    """A module that is linear but for its bias, as a linear layer of the flattened image."""
    x = torch.zeros(1, 4, *[size] * d, dtype=torch.float64)
    with torch.no_grad():
        bias = module(x).flatten()
        unit = torch.eye(x.numel(), dtype=torch.float64).view(-1, *x.shape[1:])
        layer = nn.Linear(x.numel(), len(bias)).double()
        layer.weight.copy_((module(unit).flatten(1) - bias).T)
        layer.bias.copy_(bias)
    return layer


COMPOSITES = {
    "epsilon": Epsilon(1e-3),
    "z_plus": ZPlus(1e-9),
    "alpha_beta": AlphaBeta(2, 1, 1e-9),
    "gamma": Gamma(0.25, 1e-9),
}
TRANSPOSED = [
    {},
    {"stride": 2},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"groups": 2},
    {"dilation": 2, "groups": 2, "bias": False},
    {"stride": 1, "dilation": 3, "output_padding": 2},
]


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_a_transposed_convolution_is_a_linear_layer(options, normed, composite):
    torch.manual_seed(2)
    layers = [nn.ConvTranspose2d(4, 6, 3, **options)]
    if normed:
        layers.append(nn.BatchNorm2d(6))
        nn.init.normal_(layers[1].weight)
        nn.init.normal_(layers[1].bias)
        layers[1].running_mean.normal_()
        layers[1].running_var.uniform_(0.5, 2)
    module = nn.Sequential(*layers).double().eval()
    rule = COMPOSITES[composite]
    everywhere = Composite(rule, rule)
    size = module(torch.zeros(1, 4, 8, 8, dtype=torch.float64)).shape[1:]
    flat = Around(nn.Sequential(nn.Flatten(), equivalent_linear(module, 8, 2), nn.Unflatten(1, size)), 6)
    torch.testing.assert_close(maps(Around(module, 6), composite=everywhere), maps(flat, composite=everywhere))


@pytest.mark.parametrize("d", [1, 3])
def test_transposed_convolutions_of_other_dimensions(d):
    torch.manual_seed(2)
    module = getattr(nn, f"ConvTranspose{d}d")(4 if d == 1 else 1, 4 if d == 1 else 1, 3, padding=1).double()
    shaped = (lambda v: v.flatten(2)) if d == 1 else (lambda v: v[:, None])
    network = Between(lambda s, v: module(shaped(v)).view(2, 4, 8, 8))
    function = Between(
        lambda s, v: getattr(F, f"conv_transpose{d}d")(shaped(v), module.weight, module.bias, padding=1).view(
            2, 4, 8, 8
        )
    )
    found = maps(network)
    assert found.std() > 0
    torch.testing.assert_close(found, maps(function))


def test_a_transposed_convolution_that_is_asked_for_a_size():
    torch.manual_seed(2)
    module = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1).double()
    asked = Between(lambda s, v: module(v, output_size=(16, 16)))
    padded = Between(lambda s, v: F.conv_transpose2d(v, module.weight, module.bias, 2, 1, 1))
    torch.testing.assert_close(maps(asked), maps(padded))


W = torch.randn(8, 8, generator=torch.Generator().manual_seed(5)).double()
PRODUCTS = {
    "operator": lambda s, v: v @ W.T,
    "matmul": lambda s, v: torch.matmul(v, W.T),
    "einsum": lambda s, v: torch.einsum("nchw,vw->nchv", v, W),
    "einsum of a list": lambda s, v: torch.einsum("vw,nchw->nchv", [W, v]),
    "on the left": lambda s, v: (W @ v.mT).mT,
    "method of the constant": lambda s, v: W.matmul(v.transpose(2, 3)).transpose(2, 3),
    "bmm": lambda s, v: torch.bmm(v.flatten(0, 1), W.T.expand(8, 8, 8)).view(2, 4, 8, 8),
    "mm": lambda s, v: v.reshape(-1, 8).mm(W.T).view(2, 4, 8, 8),
    "tensordot": lambda s, v: torch.tensordot(v, W, ([3], [1])),
    "addmm": lambda s, v: torch.addmm(torch.zeros(8).double(), v.reshape(-1, 8), W.T).view(2, 4, 8, 8),
    "linear": lambda s, v: F.linear(v, W),
}


@pytest.mark.parametrize("linear", [Epsilon(0.1), ZPlus(1e-6)], ids=str)
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_with_a_constant_is_a_linear_layer(name, linear):
    layer = nn.Linear(8, 8, bias=False)
    layer.weight.data = W
    composite = Composite(linear=linear)
    torch.testing.assert_close(
        maps(Between(PRODUCTS[name]), composite=composite), maps(Around(layer), composite=composite)
    )


def test_a_gated_linear_unit_gives_all_to_what_is_gated():
    glu = Between(lambda s, v: F.glu(torch.cat([v, v.flip(3)], 1), 1))
    gate = Between(lambda s, v: v * v.flip(3).sigmoid())
    torch.testing.assert_close(maps(glu), maps(gate))
    torch.testing.assert_close(maps(Between(lambda s, v: nn.GLU(1)(torch.cat([v, v.flip(3)], 1)))), maps(gate))


def test_instance_norm_with_running_statistics_is_folded_as_batch_norm():
    torch.manual_seed(2)
    instance, batch = nn.InstanceNorm2d(6, affine=True, track_running_stats=True), nn.BatchNorm2d(6)
    instance.running_mean.normal_()
    instance.running_var.uniform_(0.5, 2)
    nn.init.normal_(instance.weight)
    batch.load_state_dict(instance.state_dict())
    convolution = nn.Conv2d(4, 6, 1)
    ours, expected = (Around(nn.Sequential(convolution, norm), 6) for norm in (instance, batch))
    torch.testing.assert_close(maps(ours), maps(expected))
    assert relative(maps(ours), maps(ours, batchnorm="pass")) > 1e-3


def test_unpooling_returns_relevance_to_the_maximum():
    def unpooled(s, v):
        small, indices = nn.MaxPool2d(2, return_indices=True)(v)
        return nn.MaxUnpool2d(2)(small, indices)

    ours = maps(Between(unpooled))
    torch.testing.assert_close(ours, maps(Between(lambda s, v: v * (unpooled(s, v) == v))))


@pytest.mark.parametrize("name", ["abs", "exp", "log", "sin", "prod", "cumprod", "median", "std"])
def test_operations_without_a_sensible_rule_say_what_to_do(name):
    arguments = (1,) if name == "cumprod" else ()
    network = Between(lambda s, v: v + getattr(v, name)(*arguments))
    with pytest.raises(AdvfoolError, match=f"no rule for {name} .*interp.rules={{{name}: pass}}.*gradient-based"):
        LRP()(network, IMAGES, 1)


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias, self.stride, self.padding)


class Doubled(nn.Conv2d):
    def _conv_forward(self, input, weight, bias):
        return 2 * super()._conv_forward(input, weight, bias)


class Cosine(nn.Linear):
    def forward(self, x):
        return F.linear(x, F.normalize(self.weight, dim=1), self.bias)


class Called(nn.Conv2d):
    def __call__(self, x):
        return 3 * super().__call__(x)


@pytest.mark.parametrize("layer", [Standardised(4, 6, 3), Doubled(4, 6, 3), Called(4, 6, 3), Cosine(8, 8)])
def test_layers_with_a_forward_of_their_own_are_looked_into(layer):
    ours = Around(layer, 4 if isinstance(layer, nn.Linear) else 6)
    zero = Composite(Epsilon(1e-13), Epsilon(1e-13), None, Sum(1e-13), Norm(1e-13))
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ours(images)[:, 1].sum(), images)
    expected = (gradient * IMAGES).sum(1)  # LRP-0 of a piecewise linear network
    torch.testing.assert_close(maps(ours, composite=zero), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("way", ["item", "copy_", "add_"])
def test_values_written_into_a_constant_are_refused(way):
    def written(s, v):
        made = torch.zeros(2, 4, 8, 8, dtype=v.dtype)  # of fixed size, so nothing of it is recorded
        if way == "item":
            made[:] = v
        else:
            getattr(made, way)(v)
        return made

    with pytest.raises(AdvfoolError, match="writes computed values into a tensor that it made itself"):
        LRP()(Between(written), IMAGES, 1)


class GeM(nn.Module):
    """A generalised mean whose exponent is learnt."""

    def __init__(self):
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0).double())

    def forward(self, v):
        powers = v.relu().clamp(min=1e-6).pow(self.exponent)
        return F.avg_pool2d(powers, v.shape[-2:]).pow(1 / self.exponent)


def test_a_generalised_mean_shares_in_proportion_to_the_powers():
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = GeM()

        def forward(self, images):
            return self.pool(images).flatten(1)

    images = torch.rand(2, 3, 5, 5, dtype=torch.float64) + 0.1
    found = LRP(normalise="none", stabiliser=1e-12)(Pooling(), images, 1)
    share = images[:, 1] ** 3 / (images[:, 1] ** 3).sum((1, 2), keepdim=True)
    torch.testing.assert_close(found, share * Pooling()(images)[:, 1, None, None].detach())


@pytest.mark.parametrize("reciprocal", [lambda s, v: v**-1, lambda s, v: v.pow(-0.5), lambda s, v: 2**v])
def test_powers_that_are_not_proportional_to_their_value_are_refused(reciprocal):
    with pytest.raises(AdvfoolError, match="LRP has no rule for .*pow"):
        LRP()(Between(reciprocal), IMAGES, 1)
