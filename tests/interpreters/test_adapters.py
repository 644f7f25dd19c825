"""Interpreters of other packages agree with ours, and are refused for training."""

import pytest
import torch

from advfool.interpreters import LRP, Captum, GradCAM, IntegratedGradients, SimpleGrad, Zennit
from advfool.utilities.errors import AdvfoolError
from tests.helpers.networks import build_tiny, snapshot


def batch():
    return torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 5])


@pytest.mark.parametrize(
    ("adapter", "own"),
    [
        (Captum("Saliency"), SimpleGrad()),
        (Captum("InputXGradient"), SimpleGrad(times_input=True)),
        (
            Captum("IntegratedGradients", call={"n_steps": 6, "method": "riemann_middle"}),
            IntegratedGradients(steps=6),
        ),
        (
            Captum("LayerGradCam", layer="layer3.1", call={"relu_attributions": True}, normalise="max"),
            GradCAM("layer3.1"),
        ),
    ],
)
@pytest.mark.parametrize("grad", [True, False])
def test_captum_gives_what_our_own_give(adapter, own, grad):
    network, _ = build_tiny("resnet_tiny")
    images, targets = batch()
    before = snapshot(network)
    with torch.set_grad_enabled(grad):
        heatmaps = adapter(network, images, targets)
    torch.testing.assert_close(heatmaps, own(network, images, targets).detach())
    after = snapshot(network)
    assert before[0] == after[0]
    assert before[3:] == after[3:]
    assert not heatmaps.requires_grad


def test_zennit_gives_what_our_own_give():
    network, _ = build_tiny("vgg_tiny")
    images, targets = batch()
    for name, ours, arguments in (
        ("EpsilonPlus", "epsilon_plus", {"epsilon": 0.01}),
        ("EpsilonGammaBox", "epsilon_gamma_box", {"epsilon": 0.01, "low": [-2.0] * 3, "high": [2.0] * 3}),
    ):
        adapter = Zennit(name, arguments=arguments, canonizer="SequentialMergeBatchNorm")
        own = LRP(composite=ours, mean=(0.5,) * 3, std=(0.25,) * 3)
        torch.testing.assert_close(
            adapter(network, images, targets), own(network, images, targets).detach(), atol=1e-3, rtol=1e-3
        )


def test_training_with_one_is_refused_with_the_reason():
    for adapter in (Captum(name="captum"), Zennit(name="zennit")):
        with pytest.raises(
            AdvfoolError,
            match=f"interp={adapter.name} is for evaluation only: .* no correct gradient .* own interpreters",
        ):
            adapter.for_training()


def test_unknown_names_are_refused_with_close_ones():
    network, _ = build_tiny("vgg_tiny")
    images, targets = batch()
    with pytest.raises(AdvfoolError, match=r"captum.attr has no class 'Salience'. Close to it: Saliency"):
        Captum("Salience")(network, images, targets)
    with pytest.raises(AdvfoolError, match=r"zennit.composites has no class 'EpsilonPluss'. Close to it: EpsilonPlus"):
        Zennit("EpsilonPluss")(network, images, targets)
    with pytest.raises(AdvfoolError, match="captum's LayerGradCam needs a layer"):
        Captum("LayerGradCam")(network, images, targets)


def test_a_missing_package_is_named(monkeypatch):
    network, _ = build_tiny("vgg_tiny")
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(AdvfoolError, match=r"interp=captum needs captum: pip install 'advfool\[captum\]'"):
        Captum()(network, *batch())
