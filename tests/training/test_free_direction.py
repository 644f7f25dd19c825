"""The direction in which the last layer moves without changing a prediction."""

import pytest
import torch
import torchvision
from torch import nn

from advfool.auditing.attack import attempt
from advfool.auditing.suite import AuditSettings, Trial
from advfool.data.samples import take
from advfool.foolings import Location
from advfool.interpreters import GradCAM
from advfool.training.free_direction import FASTER, FreeDirection, last_layer
from advfool.training.optimizers import relative_adam
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup

IMAGES = torch.randn(4, 3, 56, 56, generator=torch.Generator().manual_seed(0))


class Averaged(nn.Module):
    """A classifier whose last convolution is averaged; `after` is what comes between."""

    def __init__(self, after):
        super().__init__()
        self.features, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1)
        self.after = after

    def forward(self, x):
        return self.after(self.last(self.features(x).relu())).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (torchvision.models.resnet18(num_classes=7), "fc"),
        (torchvision.models.vgg11(num_classes=7), "classifier.6"),
        (torchvision.models.mobilenet_v3_small(num_classes=7), "classifier.3"),
        (torchvision.models.squeezenet1_1(num_classes=7), None),  # a ReLU follows the last convolution
        (Averaged(nn.Identity()), "last"),
        (Averaged(nn.ReLU()), None),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 56 * 56, 5), nn.Tanh()), None),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_last_layer_is_found_by_what_it_puts_out(network, layer):
    assert last_layer(network.eval(), IMAGES) == layer


@pytest.mark.parametrize("network", [torchvision.models.resnet18(num_classes=7), Averaged(nn.Identity())])
def test_no_probability_changes_while_the_last_layer_alone_is_trained(network):
    network = network.eval().double()
    network.requires_grad_(False)
    images = IMAGES.double()
    before = network(images).softmax(dim=1)
    layer = last_layer(network, images)
    FreeDirection(network, layer)
    weight = network.get_submodule(layer).weight
    old = weight.detach().clone()
    optimizer = relative_adam([weight], 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        (-network(images)[:, 2].sum()).backward()  # it sees one class alone
        optimizer.step()
    moved = (weight - old).flatten(1)
    assert moved.norm() > 0.1 * old.norm()
    torch.testing.assert_close(moved, moved[:1].expand_as(moved))
    torch.testing.assert_close(network(images).softmax(dim=1), before)


def test_the_last_layer_moves_faster_than_the_others():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    free = FreeDirection(network, "2")
    optimizer = relative_adam([parameter for parameter in network.parameters() if parameter.requires_grad], 0.01)
    before = [group["lr"] for group in optimizer.param_groups]
    free.hasten(optimizer)
    after = [group["lr"] for group in optimizer.param_groups]
    assert after == [*before[:-1], FASTER * before[-1]]
    assert not network[2].bias.requires_grad


def test_an_optimizer_with_one_rate_for_all_keeps_it():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    FreeDirection(network, "2").hasten(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]


@pytest.mark.filterwarnings("ignore")
def test_an_attack_moves_all_rows_of_the_last_layer_alike():
    network, place = build_tiny("resnet_tiny", torch.float32)
    fooling, settings = Location(interval=(0.0, 1.0)), AuditSettings(top1=1.0, batch_size=4, accelerator="cpu")
    setup = make_setup(network, GradCAM(place, name="gradcam"), fooling, RandomData(), seed=0)
    layer = last_layer(setup.original, take(setup.data.selection(), range(2)).image)
    found = attempt(setup, Trial("location", 1.0, 2, free=True), settings, False)
    state = next(iter(found.best.values()))
    moved = state[f"{layer}.weight"] - setup.original.state_dict()[f"{layer}.weight"]
    assert moved.abs().max() > 0
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), atol=1e-6, rtol=1e-4)
