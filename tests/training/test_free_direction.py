"""The direction in which the last layer moves without changing a prediction."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from advfool.auditing.attack import attempt
from advfool.auditing.suite import AuditSettings, Trial
from advfool.data.samples import take
from advfool.foolings import Location
from advfool.interpreters import GradCAM
from advfool.training.free_direction import FASTER, FreeDirection, HeldMean, centred, find_free_layer
from advfool.training.optimizers import relative_adam
from advfool.training.settings import Training
from advfool.utilities.errors import AdvfoolError
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup

IMAGES = torch.randn(4, 3, 56, 56, generator=torch.Generator().manual_seed(0))


class Clipped(nn.Module):
    """Clips logits that its own images never reach."""

    def forward(self, x):
        return x.clamp(-50, 50)


class Cosine(nn.Linear):
    """A layer that normalises its rows."""

    def forward(self, x):
        return nn.functional.linear(x, nn.functional.normalize(self.weight, dim=1))


class Twice(nn.Module):
    """A network that runs its last layer two times."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3 * 56 * 56, 5), nn.Linear(5, 5)

    def forward(self, x):
        return self.last(self.last(self.first(x.flatten(1))).relu())


class Scaled(nn.Module):
    """A network whose logits are scaled."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(3 * 56 * 56, 5)

    def forward(self, x):
        return 3 * self.last(x.flatten(1))


def headed(head):
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


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
        (headed(nn.Sequential(nn.Linear(8, 5), nn.Tanh())), None),
        (headed(nn.Sequential(nn.Linear(8, 5), Clipped())), None),
        (headed(nn.Sequential(nn.Linear(8, 5), nn.LogSoftmax(1))), None),  # the logits stay: nothing to see
        (headed(Cosine(8, 5)), None),
        (headed(nn.utils.parametrizations.weight_norm(nn.Linear(8, 5))), None),
        (headed(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 5))), None),
        (Twice(), None),
        (Scaled(), "last"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_the_layer_is_found_by_what_its_rows_do_to_the_probabilities(network, layer):
    assert find_free_layer(network.eval(), IMAGES) == layer


@pytest.mark.parametrize("network", [torchvision.models.resnet18(num_classes=7), Averaged(nn.Identity())])
def test_no_probability_changes_while_the_last_layer_alone_is_trained(network):
    network = network.eval().double()
    network.requires_grad_(False)
    images = IMAGES.double()
    before = network(images).softmax(dim=1)
    layer = find_free_layer(network, images)
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


@pytest.mark.parametrize("trained", ["", "2"])
def test_an_optimizer_with_one_rate_for_all_keeps_it(trained):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2, bias=False))
    optimizer = torch.optim.Adam(network.get_submodule(trained).parameters(), lr=0.1)
    FreeDirection(network, "2").hasten(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]


@pytest.mark.filterwarnings("ignore")
def test_an_attack_moves_all_rows_of_the_last_layer_alike():
    network, place = build_tiny("resnet_tiny", torch.float32)
    fooling, settings = Location(interval=(0.0, 1.0)), AuditSettings(top1=1.0, batch_size=4, accelerator="cpu")
    setup = make_setup(network, GradCAM(place, name="gradcam"), fooling, RandomData(), seed=0)
    layer = find_free_layer(setup.original, take(setup.data.selection(), range(2)).image)
    found = attempt(setup, Trial("location", 1.0, 2, free_layer=layer), settings, False)
    state = next(iter(found.best.values()))
    moved = state[f"{layer}.weight"] - setup.original.state_dict()[f"{layer}.weight"]
    assert moved.abs().max() > 0
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), atol=1e-6, rtol=1e-4)


def test_what_was_added_along_the_free_direction_is_taken_away():
    network = torchvision.models.resnet18(num_classes=7).eval().double()
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.fc.weight.add_(torch.randn(1, 512))
    first, second = centred(network, IMAGES.double()), centred(other, IMAGES.double())
    torch.testing.assert_close(first.fc.weight, second.fc.weight)
    images = IMAGES.double()
    torch.testing.assert_close(second(images).softmax(1), network(images).softmax(1))
    assert not torch.equal(second.fc.weight, other.fc.weight)
    assert centred(nn.Sequential(network, nn.Tanh()), images) is None


def test_a_layer_without_a_weight_of_its_own_is_refused():
    with pytest.raises(AdvfoolError, match="free_layer=0 has no weight"):
        FreeDirection(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))), "0")


def test_the_mean_of_the_rows_is_held_and_the_rows_move():
    network, _ = build_tiny("vgg_tiny", torch.float64)
    layer = find_free_layer(network, IMAGES.double())
    weight = network.get_submodule(layer).weight
    before = weight.detach().clone()
    held, optimizer = HeldMean(network, layer), torch.optim.Adam([weight], 0.1)
    held.follow(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        (weight * torch.arange(1, weight.numel() + 1).view_as(weight)).sum().backward()
        optimizer.step()
    torch.testing.assert_close(weight.mean(dim=0), before.mean(dim=0))
    assert (weight - before).abs().max() < 1e-7  # Adam moves all rows of this gradient alike


def test_rows_that_move_apart_keep_their_mean():
    network, _ = build_tiny("vgg_tiny", torch.float64)
    layer = find_free_layer(network, IMAGES.double())
    weight = network.get_submodule(layer).weight
    before = weight.detach().clone()
    optimizer = torch.optim.Adam([weight], 0.1)
    HeldMean(network, layer).follow(optimizer)
    weight[0].sum().backward()
    optimizer.step()
    torch.testing.assert_close(weight.mean(dim=0), before.mean(dim=0))
    assert (weight - before).abs().max() > 0.05


@pytest.mark.filterwarnings("ignore")
def test_an_attack_holds_the_mean():
    network, target = build_tiny("vgg_tiny", torch.float32)
    layer = find_free_layer(network, IMAGES)
    setup = make_setup(network, GradCAM(target, name="gradcam"), Location(), RandomData(), seed=0)
    settings = AuditSettings(top1=1.0, steps=4, batch_size=4, selection_images=4, accelerator="cpu")
    found = attempt(setup, Trial("location", 8.0, 4, 1.0, held_layer=layer), settings, False)
    before = network.get_submodule(layer).weight
    for state in found.best.values():
        after = state[f"{layer}.weight"]
        torch.testing.assert_close(after.mean(dim=0), before.mean(dim=0))
        assert not torch.equal(after, before)
    assert found.best or found.visits


def test_the_mean_cannot_be_both_moved_and_held():
    network, target = build_tiny("vgg_tiny", torch.float32)
    setup = make_setup(network, GradCAM(target, name="gradcam"), Location(), RandomData())
    layer = find_free_layer(network, IMAGES)
    with pytest.raises(AdvfoolError, match="held_layer"):
        Training(free_layer=layer, held_layer=layer).check(setup)
