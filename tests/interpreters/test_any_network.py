"""Networks of any form: their outputs, targets, modes, and what keeps gradients from the images."""

import contextlib
import copy

import numpy as np
import pytest
import torch
from torch import nn

import advfool
from advfool.interpreters import (
    LRP,
    Captum,
    GradCAM,
    GuidedBackprop,
    IntegratedGradients,
    SimpleGrad,
    SmoothGrad,
    Zennit,
)
from advfool.metrics import aopc
from advfool.utilities.errors import AdvfoolError
from tests.helpers.networks import snapshot

EVERY = {
    "simplegrad": SimpleGrad(),
    "gradcam": GradCAM("c"),
    "lrp": LRP(),
    "smoothgrad": SmoothGrad(samples=2),
    "smoothgrad of lrp": SmoothGrad(LRP(), samples=2),
    "ig": IntegratedGradients(steps=2),
    "guided": GuidedBackprop(),
    "captum": Captum("Saliency"),
    "zennit": Zennit("EpsilonPlus"),
}


class Net(nn.Module):
    """A convolution, batch norm, dropout, and a head, whose output `form` makes something of."""

    def __init__(self, form=lambda logits, maps: logits, channels=3, classes=4):
        super().__init__()
        torch.manual_seed(0)
        self.c, self.bn, self.act = nn.Conv2d(channels, 5, 3), nn.BatchNorm2d(5), nn.ReLU()
        self.drop, self.head, self.form = nn.Dropout(0.5), nn.Linear(5, classes), form
        nn.init.normal_(self.bn.running_mean)
        self.double()

    def forward(self, x):
        maps = self.act(self.bn(self.c(x)))
        return self.form(self.head(self.drop(maps.mean((2, 3)))), maps)


def images(n=2, channels=3):
    return torch.randn(n, channels, 10, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))


# Modes


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("kind", EVERY)
def test_train_mode_never_leaks(kind, grad):
    """Statistics stay, no dropout is drawn, images do not influence each other, and every mode is restored."""
    network, x = Net().train(), images(3)
    network.act.eval()
    before = snapshot(network)
    with torch.set_grad_enabled(grad):
        maps = EVERY[kind](network, x, [0, 1, 2])
        alone = torch.cat([EVERY[kind](network, x[i : i + 1], i) for i in range(3)])
        in_eval_mode = EVERY[kind](copy.deepcopy(network).eval(), x, [0, 1, 2])
    if "smoothgrad" not in kind:  # whose noise differs from call to call
        torch.testing.assert_close(maps, alone)
        torch.testing.assert_close(maps, in_eval_mode)
    after = snapshot(network)
    assert before[0] == after[0]
    assert before[3:] == after[3:]
    assert network.training
    assert network.bn.training
    assert not network.act.training
    assert network.bn.num_batches_tracked == 0


def test_train_mode_never_leaks_from_metrics_and_explain():
    network, x = Net().train(), images()
    expected = aopc(Net().eval(), x, [0, 1], torch.rand(2, 5, 4), steps=3, region=2)
    torch.manual_seed(0)
    maps = torch.rand(2, 5, 4)
    torch.testing.assert_close(
        aopc(network, x, [0, 1], maps, steps=3, region=2), aopc(Net().eval(), x, [0, 1], maps, steps=3, region=2)
    )
    assert expected.shape == (2, 4)
    advfool.explain(network, x, 1, interp="gradcam", layer="c")
    assert network.bn.num_batches_tracked == 0
    assert network.training


@pytest.mark.parametrize("kind", ["simplegrad", "gradcam", "lrp"])
def test_batch_norms_that_mix_images_are_refused(kind):
    network = Net().eval()
    network.bn = nn.BatchNorm2d(5, track_running_stats=False).double()
    with pytest.raises(AdvfoolError, match="'bn' keeps no running statistics"):
        EVERY[kind](network, images(), 1)


# Outputs

FORMS = {
    "tuple with a map": lambda logits, maps: (logits, maps),
    "list": lambda logits, maps: [maps, logits],
    "dict": lambda logits, maps: {"features": maps, "scores": logits},
    "dict with logits": lambda logits, maps: {"hidden": 2 * logits, "logits": logits},
    "map of one place": lambda logits, maps: logits[:, :, None, None],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("form", FORMS)
def test_the_logits_are_found_in_outputs_of_any_form(form, kind):
    torch.manual_seed(2)
    found = EVERY[kind](Net(FORMS[form]).eval(), images(), [1, 3])
    torch.manual_seed(2)
    torch.testing.assert_close(found, EVERY[kind](Net().eval(), images(), [1, 3]))


def test_one_score_is_one_class():
    one = Net(lambda logits, maps: logits[:, 0]).eval()
    torch.testing.assert_close(LRP()(one, images(), 0), LRP()(Net().eval(), images(), 0))
    with pytest.raises(AdvfoolError, match="targets from 0 to 0"):
        SimpleGrad()(one, images(), 1)


@pytest.mark.parametrize("kind", ["simplegrad", "lrp", "captum"])
@pytest.mark.parametrize(
    "form",
    [
        lambda logits, maps: (logits, 2 * logits),
        lambda logits, maps: {"a": logits, "b": logits},
        lambda logits, maps: maps,
        lambda logits, maps: (maps, maps),
        lambda logits, maps: logits.argmax(1),
        lambda logits, maps: None,
        lambda logits, maps: logits.sum(),
    ],
)
def test_ambiguous_outputs_are_refused(form, kind):
    with pytest.raises(AdvfoolError, match=r"(Expected a network that returns logits|cannot be traced)"):
        EVERY[kind](Net(form).eval(), images(), 0)


def test_output_chooses_the_logits():
    both, x = Net(lambda logits, maps: {"main": logits, "other": logits.flip(1)}).eval(), images()
    for interp in ("simplegrad", "lrp", "gradcam"):
        layer = {"layer": "c"} if interp == "gradcam" else {}
        found = advfool.explain(both, x, 1, interp=interp, output="main", **layer)
        np.testing.assert_allclose(found, advfool.explain(Net().eval(), x, 1, interp=interp, **layer), atol=1e-6)
    with pytest.raises(AdvfoolError, match="output: expected one of 'main'"):
        advfool.explain(both, x, 1, output="logits")
    assert not both._forward_hooks


def test_a_network_of_several_outputs_is_fooled():
    x, labels = torch.rand(60, 1, 12, 16), torch.arange(60) % 4
    network = Net(lambda logits, maps: (logits, logits * 2, maps), channels=1).float()
    options = {"steps": 2, "validations": 1, "max_accuracy_drop": 1, "accelerator": "cpu", "progress": False}
    result = advfool.fool(network, (x, labels), interp="simplegrad", output=0, **options)
    assert result.heatmaps(x[:2])["manipulated"].shape == (2, 12, 16)
    with pytest.raises(AdvfoolError, match="Choose one with output="):
        advfool.fool(network, (x, labels), interp="simplegrad", **options)


# Targets

TARGETS = {
    "list": [1, 3],
    "array": np.array([1, 3]),
    "small integers": torch.tensor([1, 3], dtype=torch.uint8),
    "column": torch.tensor([[1], [3]]),
    "one-hot": torch.eye(4)[[1, 3]],
    "one-hot whole numbers": np.eye(4, dtype=int)[[1, 3]],
    "one-hot booleans": torch.eye(4)[[1, 3]].bool(),
}


@pytest.mark.parametrize("form", TARGETS)
def test_targets_of_any_form(form):
    network, expected = Net().eval(), torch.tensor([1, 3])
    for interpreter in (SimpleGrad(), LRP()):
        found = interpreter(network, images(), TARGETS[form])
        torch.testing.assert_close(found, interpreter(network, images(), expected))
    maps = torch.rand(2, 5, 4)
    found = aopc(network, images(), TARGETS[form], maps, steps=2, region=2)
    torch.testing.assert_close(found, aopc(network, images(), expected, maps, steps=2, region=2))
    assert advfool.explain(network, images(), TARGETS[form], interp="simplegrad").shape == (2, 10, 8)


@pytest.mark.parametrize(
    "wrong",
    [
        [0, 4],
        [-1, 0],
        [0, 1, 2],
        4,
        [0.5, 1.0],
        torch.rand(2, 4),
        torch.ones(2, 4),
        [[0, 1], [2, 3]],
        "cat",
        [True, False],
        [[0], [1, 2]],
    ],
)
def test_targets_that_do_not_fit_are_refused(wrong):
    for run in (
        lambda: SimpleGrad()(Net().eval(), images(), wrong),
        lambda: advfool.explain(Net().eval(), images(), wrong, interp="simplegrad"),
    ):
        with pytest.raises(AdvfoolError, match="Expected|targets must be a tensor or an array"):
            run()


# No gradient path


class NoGrad(Net):
    def forward(self, x):
        with torch.no_grad():
            x = self.c(x)
        return self.head(self.act(self.bn(x)).mean((2, 3)))


def test_a_part_without_gradients_is_named():
    for grad in (True, False):
        with torch.set_grad_enabled(grad), pytest.raises(AdvfoolError, match=r"No gradient reaches .* ends at 'c'"):
            SimpleGrad()(NoGrad().eval(), images(), 0)
    assert LRP()(NoGrad().eval(), images(), 0).abs().max() == 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("interpreter", [SimpleGrad(), LRP(), GradCAM("0"), Captum("Saliency")])
@pytest.mark.parametrize("kind", ["quantised", "scripted", "traced", "frozen", "detached", "rounded"])
def test_networks_without_gradients_work_or_say_why(kind, interpreter):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    x = torch.rand(2, 3, 8, 8)
    expected = interpreter(network, x, 1)
    make = {
        "quantised": lambda: torch.ao.quantization.quantize_dynamic(network, {nn.Linear}),
        "scripted": lambda: torch.jit.script(network),
        "traced": lambda: torch.jit.trace(network, x),
        "frozen": lambda: torch.jit.freeze(torch.jit.script(network)),
        "detached": lambda: nn.Sequential(*network, Detached()),
        "rounded": lambda: nn.Sequential(Quantiser(), *network),
    }
    found = None
    with contextlib.suppress(AdvfoolError):
        found = interpreter(make[kind](), x, 1)
    if found is not None and kind != "rounded":
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-2)


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()


class Quantiser(nn.Module):
    def forward(self, x):
        return (x * 255).to(torch.uint8).to(torch.float32) / 255


def test_networks_with_computed_weights_can_be_copied():
    network = nn.Sequential(
        nn.utils.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    network(torch.rand(1, 3, 8, 8))
    x = torch.rand(30, 3, 12, 12)
    torch.testing.assert_close(Captum("Saliency")(network, x, 1), SimpleGrad()(network, x, 1).detach())
    options = {"steps": 2, "validations": 1, "max_accuracy_drop": 1, "accelerator": "cpu", "progress": False}
    result = advfool.fool(network, (x, torch.arange(30) % 3), interp="simplegrad", **options)
    assert result.model is not network


class Uncopied(Net):
    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle '_thread.lock' object")


def test_networks_that_cannot_be_copied_are_named():
    with pytest.raises(AdvfoolError, match=r"Uncopied cannot be copied .*lock"):
        Captum("Saliency")(Uncopied().eval(), images(), 0)


@pytest.mark.parametrize(
    ("adapter", "method", "options", "message"),
    [
        (Captum, "Salency", {}, "Close to it: .*Saliency"),
        (Captum, "IntegratedGradients", {"call": {"n_step": 3}}, "captum failed on Net .*n_step"),
        (Captum, "Saliency", {"arguments": {"wrong": 1}}, "captum failed"),
        (Zennit, "EpsilonPluss", {}, "Close to it: .*EpsilonPlus"),
        (Zennit, "EpsilonPlus", {"arguments": {"wrong": 1}}, "zennit failed"),
    ],
)
def test_errors_of_other_libraries_are_expected_errors(adapter, method, options, message):
    with pytest.raises(AdvfoolError, match=message):  # a name already where it is given, the rest at the images
        adapter(method, **options)(Net().eval(), images(), 0)


@pytest.mark.parametrize("interpreter", [SimpleGrad(), LRP(), Captum("Saliency")])
@pytest.mark.parametrize("wrong", [images(channels=4), images().half(), images()[:, :, :2]])
def test_images_that_do_not_fit_are_refused(interpreter, wrong):
    with pytest.raises(AdvfoolError, match=r"(forward pass|failed|cannot|Expected)"):
        interpreter(Net().eval(), wrong, 0)
