"""An aggregate is the mean of its interpreters' normalised maps, enlarged to one size."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advfool.interpreters import LRP, Aggregate, GradCAM, SimpleGrad
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise
from tests.helpers.networks import build_tiny

IMAGES, TARGETS = torch.randn(3, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 5, 2])


def by_hand(interpreters, network):
    maps, total = [interpreter(network, IMAGES, TARGETS) for interpreter in interpreters], 0
    side = max(each.shape[-1] for each in maps)
    for each in maps:
        total = total + F.interpolate(each[:, None], (side, side), mode="bilinear")[:, 0]
    return normalise(total / len(interpreters))


@pytest.mark.parametrize(
    "kinds",
    [
        lambda layer: [GradCAM(layer), SimpleGrad()],
        lambda layer: [LRP(), GradCAM(layer), SimpleGrad(layer)],  # signed, and a walk through the graph
        lambda layer: [LRP(layer), LRP(composite="epsilon_gamma_box", mean=(0.5,) * 3, std=(0.25,) * 3)],  # two walks
    ],
)
def test_the_mean_of_the_normalised_maps(kinds):
    network, layer = build_tiny("resnet_tiny")
    found = kinds(layer)
    aggregate = Aggregate(found)
    torch.testing.assert_close(aggregate(network, IMAGES, TARGETS), by_hand(found, network))
    assert aggregate.signed == any(each.signed for each in found)


def test_one_pass_serves_the_aggregate_and_the_others():
    network, layer = build_tiny("vgg_tiny")
    single = GradCAM(layer)
    aggregate = Aggregate([single, LRP(layer)])
    expected = by_hand(aggregate.interpreters, network), single(network, IMAGES, TARGETS)
    recording = record(network, IMAGES, [aggregate, single])
    recording.network = nn.Identity()  # there is no other pass
    torch.testing.assert_close(aggregate.read(recording, TARGETS), expected[0])
    torch.testing.assert_close(single.read(recording, TARGETS), expected[1])


def test_training_is_that_of_every_interpreter():
    trained = Aggregate([GradCAM("a", training_leak=0.1), SimpleGrad("a")]).for_training()
    assert isinstance(trained, Aggregate)
    assert trained.interpreters[0].leak == 0.1
    assert hash(trained)


@pytest.mark.parametrize("given", [[], [SimpleGrad()], "gradcam", [SimpleGrad(), "lrp"]])
def test_fewer_than_two_interpreters_or_something_else_are_refused(given):
    with pytest.raises(AdvfoolError, match="interpreters"):
        Aggregate(given)
