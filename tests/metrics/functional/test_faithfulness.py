"""Faithfulness against a loop written from its definition."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from advfool.metrics import BadMaps, faithfulness
from advfool.utilities.errors import AdvfoolError
from tests.helpers.splitmix import INDEX, splitmix

ROWS, COLS, REGION = 4, 4, 5  # of images of 20x23: 3 pixels are left over on the right
REPLACEMENTS = ["blur", "uniform", "mean", "zero"]


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 6, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(480, 4)).double().eval()


@pytest.fixture
def batch():
    """Images, targets, heatmaps as large as the images."""
    images = torch.randn(3, 3, 20, 23, dtype=torch.float64)
    return images, torch.tensor([0, 3, 1]), torch.rand(3, 20, 23, dtype=torch.float64)


def by_the_definition(f, image, fill, heatmap, index, seed, steps, regions, orders, insertion):
    corners = [(r * REGION, c * REGION) for r in range(ROWS) for c in range(COLS)]
    ranks = (scipy.stats.rankdata(heatmap.numpy()).reshape(heatmap.shape) / heatmap.numel()) ** 8
    relevance = [float(ranks[r : r + REGION, c : c + REGION].mean()) for r, c in corners]
    own = sorted(range(len(corners)), key=lambda cell: -relevance[cell])
    random = [
        sorted(range(len(corners)), key=lambda cell, o=order: splitmix(seed, 2 + o, index, cell))
        for order in range(orders)
    ]

    def put(picture, cells, source):
        picture = picture.copy()
        for cell in cells:
            r, c = corners[cell]
            picture[:, r : r + REGION, c : c + REGION] = source[:, r : r + REGION, c : c + REGION]
        return picture

    def value(order):
        start = put(image, order, fill) if insertion else image
        source = image if insertion else fill
        points = [f(put(start, order[: regions * k], source)) for k in range(steps + 1)]
        rises = [point - points[0] for point in points]
        return sum(rises) / (steps + 1) * (1 if insertion else -1)

    values = [value(order) for order in random]
    return value(own) - sum(values) / orders, value(own) > max(values)


def filled(image, replacement, index, seed):
    if replacement == "zero":
        return np.zeros_like(image)
    if replacement == "mean":
        return np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)
    if replacement == "blur":  # a tenth of the shorter side, in a window of two standard deviations to each side
        return gaussian_blur(torch.from_numpy(image), [9, 9], [2.0, 2.0]).numpy()
    noise = np.array([splitmix(seed, 0, index, place) for place in range(image.size)]).reshape(image.shape)
    low, high = (end(image, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
    return low + (high - low) * noise


@pytest.mark.parametrize("insertion", [False, True])
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_faithfulness_is_the_definitions(network, batch, replacement, insertion):
    settings = {"random_orders": 3, "steps": 4, "regions": 2, "seed": 5}
    found = faithfulness(
        network, *batch, region=REGION, replacement=replacement, insertion=insertion, index=INDEX, **settings
    )
    for i, (image, target, heatmap) in enumerate(zip(*batch, strict=True)):

        def f(x, target=target):
            return network(torch.from_numpy(x)[None]).softmax(dim=1)[0, target].item()

        fill = filled(image.numpy(), replacement, INDEX[i].item(), 5)
        arguments = (image.numpy(), fill, heatmap, INDEX[i].item(), 5, 4, 2, 3, insertion)
        value, faithful = by_the_definition(f, *arguments)
        assert found.value[i].item() == pytest.approx(value, abs=1e-9)
        assert found.faithful[i].item() == faithful


def test_the_map_of_a_network_that_sees_one_place_is_faithful_and_others_are_not():
    class Corner(nn.Module):
        def forward(self, x):
            seen = x[:, 0, :7, :7].mean(dim=(1, 2))
            return torch.stack([10 * seen, torch.zeros_like(seen)], dim=1)

    images = torch.ones(40, 1, 56, 56)
    honest, lying = torch.zeros(2, 40, 8, 8)
    honest[:, 0, 0] = lying[:, 7, 7] = 1
    settings = {"replacement": "zero", "index": torch.arange(40)}
    found = faithfulness(Corner(), images, 0, honest, **settings)
    # A random order has the corner among the first two of 64 regions, which is as good, once in 32 times.
    assert abs(found.faithful.float().mean() - (31 / 32) ** 8) < 0.2  # three standard errors
    assert found.value.mean() > 0.3
    assert not faithfulness(Corner(), images, 0, lying, **settings).faithful.any()


def test_a_constant_map_is_never_faithful_and_noise_seldom(network):
    images = torch.randn(200, 3, 20, 23, dtype=torch.float64)
    flat = faithfulness(network, images, 0, torch.ones(200, 6, 6))
    assert not flat.faithful.any()
    noise = faithfulness(network, images, 0, torch.rand(200, 6, 6))
    assert abs(noise.faithful.float().mean() - 1 / 9) < 0.07  # three standard errors
    assert abs(noise.value.mean()) < 0.05


def test_a_sharpened_map_is_exactly_as_faithful(network, batch):
    images, targets, _ = batch
    heatmaps = torch.rand(3, 6, 6, dtype=torch.float64)
    before = faithfulness(network, images, targets, heatmaps)
    for power in (4, 16):
        after = faithfulness(network, images, targets, heatmaps**power)
        assert torch.equal(before.value, after.value)
        assert torch.equal(before.faithful, after.faithful)


def test_equal_values_are_no_victory(batch):
    """A network that ignores its input: the fall is 0 in every order."""
    images, targets, heatmaps = batch
    found = faithfulness(lambda x: torch.zeros(len(x), 4, dtype=torch.float64), images, targets, heatmaps)
    assert not found.faithful.any()
    assert not found.value.any()


def test_an_image_alone_is_as_in_a_batch(network, batch):
    together = faithfulness(network, *batch, index=INDEX)
    alone = faithfulness(network, *(part[1:2] for part in batch), index=INDEX[1:2])
    torch.testing.assert_close(alone.value[0], together.value[1])
    swapped = faithfulness(network, *(part.flip(0) for part in batch))  # known by their pixels
    torch.testing.assert_close(swapped.value.flip(0), faithfulness(network, *batch).value)
    assert len(faithfulness(network, *(part[:0] for part in batch)).value) == 0


def test_the_network_is_left_in_its_mode(network, batch):
    network.train()
    faithfulness(network, *batch)
    assert network.training


def test_bad_arguments_are_named(network, batch):
    images, targets, heatmaps = batch
    with pytest.raises(AdvfoolError, match="4 steps of 5 regions replace 20, but an image of 20x23 has 16 regions"):
        faithfulness(network, images, targets, heatmaps, steps=4, regions=5, region=5)
    with pytest.raises(AdvfoolError, match="random_orders must be"):
        faithfulness(network, images, targets, heatmaps, random_orders=0)
    with pytest.raises(AdvfoolError, match="replacement must be"):
        faithfulness(network, images, targets, heatmaps, replacement="white")
    with pytest.raises(BadMaps, match="image 1"):
        faithfulness(network, images, targets, heatmaps.index_fill(0, torch.tensor([1]), torch.nan))
