"""Which networks can be traced, and when they are traced again."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from advfool.interpreters import LRP, GradCAM, SimpleGrad
from advfool.interpreters.tracing.recording import record
from advfool.interpreters.tracing.sites import IMAGES, Site
from advfool.interpreters.tracing.tracer import traces
from advfool.utilities.errors import AdvfoolError
from tests.helpers.small_networks import Small, some_images


def trace(network, sites):
    return next(traces(network, some_images(), sites))


# What cannot be recorded


class Untraceable(Small):
    def forward(self, images):
        return super().forward(torch.from_numpy(images.detach().numpy()) * 0 + images)


def test_an_untraceable_network_is_refused_for_lrp_and_works_for_gradients():
    network, images = Untraceable(), some_images()
    with pytest.raises(AdvfoolError) as error:
        LRP()(network, images, 1)
    assert str(error.value).startswith("Untraceable cannot be traced by torch.fx, which LRP needs: ")
    assert str(error.value).endswith("Gradient-based interpreters (gradcam, simplegrad, ...) do not need a trace.")
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


def test_train_mode_changes_nothing():
    class TwoModes(Small):
        def forward(self, images):
            logits = super().forward(images)
            return -logits if self.training else logits

    network, images = TwoModes(), some_images()
    torch.testing.assert_close(record(network, images, [LRP()]).logits, network(images))
    torch.testing.assert_close(LRP()(network.train(), images, 1), LRP()(Small(), images, 1))
    assert network.training


def test_the_cache_does_not_keep_networks():
    network = Small()
    LRP("second")(network, some_images(), 1)
    GradCAM("second")(network, some_images(), 1)
    reference = weakref.ref(network)
    del network
    gc.collect()
    assert reference() is None
