"""`advfool.explain`: maps of any network by any interpreter's name."""

import numpy as np
import pytest
import torch

import advfool
from advfool.interpreters import LRP, GradCAM, SimpleGrad
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import resize
from tests.helpers.networks import build_tiny


def batch():
    return np.random.default_rng(0).standard_normal((4, 3, 56, 56)).astype(np.float32), np.array([0, 1, 2, 3])


def test_maps_have_the_inputs_size_or_their_own():
    network, layer = build_tiny("resnet_tiny", torch.float32)
    images, targets = batch()
    tensors = torch.from_numpy(images), torch.from_numpy(targets)
    own = GradCAM(layer)(network, *tensors).detach()
    native = advfool.explain(network, images, targets, interp="gradcam", size=None)
    assert isinstance(native, np.ndarray)
    np.testing.assert_allclose(native, own.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        advfool.explain(network, *tensors, interp="gradcam"), resize(own, (56, 56)).numpy(), atol=1e-5
    )
    assert advfool.explain(network, images, 3, interp="gradcam", size=(20, 30)).shape == (4, 20, 30)


def test_names_and_settings_are_those_of_the_command_line():
    network, layer = build_tiny("densenet_tiny", torch.float32)
    images, targets = batch()
    tensors = torch.from_numpy(images), torch.from_numpy(targets)
    for ours, expected in (
        (advfool.explain(network, images, targets), LRP()),
        (advfool.explain(network, images, targets, interp="lrp_t", size=None), LRP(layer)),
        (
            advfool.explain(network, images, targets, "lrp_t", None, layer="features.transition1", epsilon=0.1),
            LRP("features.transition1", epsilon=0.1),
        ),
        (advfool.explain(network, images, targets, "simplegrad", times_input=True), SimpleGrad(times_input=True)),
        (advfool.explain(network, images, targets, LRP(layer), None, device="cpu"), LRP(layer)),
    ):
        np.testing.assert_allclose(ours, expected(network, *tensors).detach().numpy(), atol=1e-5)


def test_unknown_names_and_settings_are_refused():
    network, _ = build_tiny("vgg_tiny", torch.float32)
    images, targets = batch()
    with pytest.raises(AdvfoolError, match="There is no interpreter 'gradcamm'. Close to it: gradcam, "):
        advfool.explain(network, images, targets, interp="gradcamm")
    with pytest.raises(
        AdvfoolError, match="interp=lrp has no setting epsilonn. It has: layer, layer_side, layout, composite, epsilon"
    ):
        advfool.explain(network, images, targets, epsilonn=1)
    with pytest.raises(AdvfoolError, match="std belong to an interpreter given by name"):
        advfool.explain(network, images, targets, interp=LRP(), std=1)


@pytest.mark.parametrize("interp", ["lrp", "gradcam"])
def test_quantus_takes_it(interp):
    quantus = pytest.importorskip("quantus")
    network, _ = build_tiny("resnet_tiny", torch.float32)
    images, targets = batch()
    metric = quantus.PixelFlipping(features_in_step=448, perturb_baseline="black", disable_warnings=True)
    curves = metric(
        model=network,
        x_batch=images,
        y_batch=targets,
        a_batch=None,
        device="cpu",
        explain_func=advfool.explain,
        explain_func_kwargs={"interp": interp},
    )
    maps = advfool.explain(network, images, targets, interp=interp)
    again = metric(model=network, x_batch=images, y_batch=targets, a_batch=maps[:, None], device="cpu")
    np.testing.assert_allclose(np.array(curves), np.array(again))


def test_explain_leaves_statistics_alone_in_train_mode():
    network, _ = build_tiny("resnet_tiny", torch.float32)
    from advfool.models import find_target_layer

    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    find_target_layer(network, (3, 56, 56))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network.layer1.training
    assert advfool.explain(
        network.eval(), torch.randn(1, 3, 56, 56), 1, "simplegrad", layer="layer2", layout="nchw"
    ).shape
