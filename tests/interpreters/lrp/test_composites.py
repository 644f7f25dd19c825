"""Rules of the user's own, by module, type and function."""

import pytest
import torch
from torch import nn

from advfool.interpreters import LRP
from advfool.interpreters.lrp import (
    AlphaBeta,
    Composite,
    Pass,
)
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from tests.helpers.relevance import Method, Sine, SineBody, relative, some_images


class Body(nn.Module):
    """Has no rule, and is not taken apart when it is given one."""

    def forward(self, x):
        return torch.sin(x) * x


class WithBody(Sine):
    def __init__(self):
        super().__init__()
        self.body = Body()


@pytest.mark.parametrize("key", [torch.sin, "torch.sin", SineBody, "tests.helpers.relevance.SineBody"])
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


@pytest.mark.parametrize("key", [Body, f"{__name__}.Body"])
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
        (lambda: LRP(rules={"tests.Boddy": "pass"}), ["rules: there is no 'tests.Boddy' to give a rule to"]),
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
