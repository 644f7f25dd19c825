"""AOPC against loops written from the paper."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from torch import nn

from advfool.metrics import BadMaps, aopc, aopc_value
from advfool.utilities.errors import AdvfoolError
from tests.helpers.splitmix import INDEX, splitmix

SIDES, REGION, CELLS = (20, 23), 5, 16  # 4x4 regions; nothing is left over below, 3 pixels on the right


ORDERS = ["most_relevant_first", "least_relevant_first", "random"]


REPLACEMENTS = ["uniform", "mean", "blur", "zero"]


PIXEL_RANGE = ([-1.0, -2.0, 0.0], [1.0, 2.0, 0.5])


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 6, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(480, 4)).double().eval()


@pytest.fixture
def batch():
    """Images, targets, heatmaps."""
    return torch.randn(3, 3, *SIDES, dtype=torch.float64), torch.tensor([0, 3, 1]), torch.rand(3, 6, 6)


def enlarged(heatmap, height, width):
    """Bilinear between the centres of the cells."""
    result = np.empty((height, width))
    for row in range(height):
        for col in range(width):
            y, x = (
                min(max((at + 0.5) * cells / side - 0.5, 0), cells - 1)
                for at, side, cells in ((row, height, heatmap.shape[0]), (col, width, heatmap.shape[1]))
            )
            top, left = int(y), int(x)
            bottom, right = min(top + 1, heatmap.shape[0] - 1), min(left + 1, heatmap.shape[1] - 1)
            upper = heatmap[top, left] * (1 - x + left) + heatmap[top, right] * (x - left)
            lower = heatmap[bottom, left] * (1 - x + left) + heatmap[bottom, right] * (x - left)
            result[row, col] = upper * (1 - y + top) + lower * (y - top)
    return result


def replaced_image(image, replacement, index, seed):
    """What each pixel is replaced with."""
    if replacement == "zero":
        return np.zeros_like(image)
    if replacement == "mean":
        return np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)
    if replacement == "blur":
        weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 5.0**2))
        for axis in (1, 2):
            image = scipy.ndimage.correlate1d(image, weights / weights.sum(), axis=axis, mode="mirror")
        return image
    noise = np.array([splitmix(seed, 0, index, place) for place in range(image.size)]).reshape(image.shape)
    low, high = (np.array(end)[:, None, None] for end in PIXEL_RANGE)
    return low + (high - low) * noise


def by_the_paper(f, image, heatmap, steps, order, replacement, index, seed):
    heatmap = enlarged(heatmap, *image.shape[1:])
    new = replaced_image(image, replacement, index, seed)
    corners = [(row, col) for row in range(0, 20, REGION) for col in range(0, 20, REGION)]
    relevance = [heatmap[r : r + REGION, c : c + REGION].mean() for r, c in corners]
    ranked = sorted(range(CELLS), key=lambda cell: relevance[cell], reverse=order == "most_relevant_first")
    if order == "random":
        ranked = sorted(range(CELLS), key=lambda cell: splitmix(seed, 1, index, cell))
    x = image.copy()
    curve = [0.0]
    for cell in ranked[:steps]:
        r, c = corners[cell]
        x[:, r : r + REGION, c : c + REGION] = new[:, r : r + REGION, c : c + REGION]
        curve.append(f(image) - f(x))
    return curve


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("order", ORDERS)
def test_curves_are_the_papers(network, batch, order, replacement):
    images, targets, heatmaps = batch
    expected = []
    for image, target, heatmap, index in zip(*batch, INDEX.tolist(), strict=True):

        def f(x, target=target):
            return network(torch.from_numpy(x)[None]).softmax(dim=1)[0, target].item()

        arguments = (image.numpy(), heatmap.double().numpy(), CELLS, order, replacement, index, 5)
        expected.append(by_the_paper(f, *arguments))
    settings = {"order": order, "replacement": replacement, "seed": 5, "index": INDEX, "pixel_range": PIXEL_RANGE}
    curves = aopc(network, images, targets, heatmaps, steps=CELLS, region=REGION, **settings)
    torch.testing.assert_close(curves, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)
    fewer = aopc(network, images, targets, heatmaps, steps=6, region=REGION, **settings)
    torch.testing.assert_close(fewer, curves[:, :7])
    value = sum(expected[0]) / (CELLS + 1)
    assert aopc_value(curves)[0].item() == pytest.approx(value, abs=1e-9)


def test_quantus_pixel_flipping_agrees(batch):
    """One pixel a step, heatmaps as large as the image, a single channel: what Quantus can do, too."""
    import quantus

    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 4)).eval()
    images, heatmaps = torch.randn(3, 1, 8, 8), torch.rand(3, 8, 8)
    flip = quantus.PixelFlipping(
        features_in_step=1, perturb_baseline=0.0, normalise=False, abs=False, disable_warnings=True
    )
    scores = flip(network, images.numpy(), batch[1].numpy(), heatmaps[:, None].numpy(), device="cpu")
    curves = aopc(network, images, batch[1], heatmaps, steps=64, region=1, replacement="zero")
    before = network(images).softmax(dim=1).gather(1, batch[1][:, None]).double()
    torch.testing.assert_close((before - curves)[:, 1:], torch.tensor(np.array(scores)).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("order", ORDERS)
def test_an_image_alone_is_as_in_a_batch(network, batch, order, replacement):
    settings = {"steps": 9, "region": REGION, "order": order, "replacement": replacement, "seed": 1}
    together = aopc(network, *batch, index=INDEX, **settings)
    for i in range(3):
        alone = aopc(network, *(part[i : i + 1] for part in batch), index=INDEX[i : i + 1], **settings)
        torch.testing.assert_close(alone[0], together[i])
    unnumbered = aopc(network, *batch, **settings)
    swapped = aopc(network, *(part.flip(0) for part in batch), **settings)  # known by their pixels
    torch.testing.assert_close(swapped.flip(0), unnumbered)


def test_the_scale_of_a_map_does_not_matter(network, batch):
    images, targets, maps = batch
    maps = maps.double()
    curves = [aopc(network, images, targets, scaled, 9, REGION) for scaled in (maps, maps * 1e-60, maps * 1e-6 + 100)]
    assert torch.equal(curves[0], curves[1])
    assert torch.equal(curves[0], curves[2])


def test_no_images_have_no_curves(network, batch):
    curves = aopc(network, *(part[:0] for part in batch), steps=9, region=REGION)
    assert curves.shape == (0, 10)


def test_counts_and_targets_are_checked(network, batch):
    images, targets, maps = batch
    with pytest.raises(AdvfoolError, match=r"^aopc: expected heatmaps for each of 3 images, got 2\.$"):
        aopc(network, images, targets, maps[:2], steps=2, region=REGION)
    with pytest.raises(AdvfoolError, match=r"^aopc: expected index for each of 3 images, got 1\.$"):
        aopc(network, *batch, steps=2, region=REGION, index=INDEX[:1])
    message = r"^Expected targets from 0 to 3 \(the network has 4 outputs\), got 4\.$"
    with pytest.raises(AdvfoolError, match=message):
        aopc(network, images, targets + 1, maps, steps=2, region=REGION)


def test_seed_and_index_matter_where_something_is_drawn(network, batch):
    def curves(**settings):
        return aopc(network, *batch, steps=9, region=REGION, **settings)

    for settings in ({"order": "random", "replacement": "mean"}, {"replacement": "uniform"}):
        first = curves(**settings)
        assert torch.equal(curves(**settings), first)
        assert not torch.allclose(curves(seed=1, **settings), first)
        assert not torch.allclose(curves(index=INDEX, **settings), first)
    assert torch.equal(curves(replacement="mean", seed=1), curves(replacement="mean"))


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3])
def test_regions_of_constant_maps_are_in_random_order(network, batch, value):
    images, targets, _ = batch
    settings = {"steps": CELLS, "region": REGION, "replacement": "mean", "seed": 3}
    expected = aopc(network, *batch, order="random", **settings)
    constant = torch.full((3, 7, 7), value)
    for order in ORDERS:
        torch.testing.assert_close(aopc(network, images, targets, constant, order=order, **settings), expected)


def test_equal_regions_are_in_random_order(network, batch):
    """A map of which one corner alone says anything: that one goes first, the others follow by chance."""
    images, targets, _ = batch
    heatmaps = torch.full((3, *SIDES), 0.3)
    heatmaps[:, 15:, 15:20] = 1
    seen = []
    settings = {"steps": CELLS, "region": REGION, "replacement": "zero"}
    aopc(lambda x: seen.append(x.clone()) or network(x), images, targets, heatmaps, **settings)
    changed = [(after != before).any(dim=1) for before, after in pairwise(seen)]
    assert changed[0][:, 15:, 15:20].all()
    orders = torch.stack([change.flatten(1).float().argmax(dim=1) for change in changed[1:]], dim=1)
    assert all(len(set(order)) == CELLS - 1 for order in orders.tolist())
    assert not torch.equal(orders[0], orders[1])
    assert (orders[0].diff() < 0).any()


# What is replaced, and what is not


def test_noise_is_within_the_pixel_range(network, batch):
    images, targets, heatmaps = batch

    def last(**settings):
        seen = []
        aopc(lambda x: seen.append(x.clone()) or network(x), images, targets, heatmaps, CELLS, REGION, **settings)
        assert torch.equal(seen[-1][..., 20:], images[..., 20:])
        return seen[-1][..., :20]

    own = last()
    assert (own.amin(dim=(2, 3)) >= images.amin(dim=(2, 3))).all()
    assert (own.amax(dim=(2, 3)) <= images.amax(dim=(2, 3))).all()
    each = last(pixel_range=PIXEL_RANGE)
    assert each[:, 0].abs().max() <= 1 < each[:, 1].abs().max() <= 2
    assert each[:, 2].amin() >= 0
    one = last(pixel_range=(0, 1))
    assert 0 <= one.min() < 0.01 < 0.99 < one.max() <= 1


def test_leaves_images_model_and_gradients_alone(network, batch):
    images = batch[0].clone().requires_grad_()
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    curves = aopc(network, images, *batch[1:], steps=4, region=REGION)
    assert torch.equal(images, batch[0])
    assert not curves.requires_grad
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (curves[:, 0] == 0).all()
    assert curves.shape == (3, 5)


@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_types_sizes_and_layouts(network, batch, replacement):
    images, targets, heatmaps = batch
    settings = {"steps": 4, "region": REGION, "replacement": replacement, "index": INDEX}
    exact = aopc(network, *batch, **settings)
    single = aopc(network.float(), images.float(), targets, heatmaps.double(), **settings)
    torch.testing.assert_close(single, exact, rtol=0, atol=1e-5)
    channels_last = images.float().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(aopc(network, channels_last, targets, heatmaps, **settings), single)
    halves = torch.rand(3, 6, 6).half()
    expected = aopc(network, images.float(), targets, halves.float(), **settings)
    torch.testing.assert_close(aopc(network, images.float(), targets, halves, **settings), expected)
    half = aopc(lambda x: network(x.float()).half(), images.half(), targets, heatmaps, **settings)
    torch.testing.assert_close(half, single, rtol=0, atol=0.01)
    tiny = nn.Sequential(nn.Flatten(), nn.Linear(3, 4))
    for side in ((1, 1), (5, 3)):
        curves = aopc(tiny, torch.rand(1, 3, 1, 1), targets[:1], torch.rand(1, *side), 1, 1, replacement=replacement)
        assert curves.isfinite().all()


# Errors


def test_too_many_steps_are_refused_with_the_number_possible(network, batch):
    message = (
        r"^aopc: steps must be from 0 to 16 \(4x4 regions of 5x5 pixels in an image of 20x23\), got 17\. "
        r"Use fewer steps or smaller regions\.$"
    )
    with pytest.raises(AdvfoolError, match=message):
        aopc(network, *batch, steps=17, region=5)
    with pytest.raises(AdvfoolError, match=r"steps must be from 0 to 0 \(0x1 regions of 21x21 pixels"):
        aopc(network, *batch, steps=1, region=21)
    with pytest.raises(AdvfoolError, match=r"^steps must be a whole number of at least 0, got -1\.$"):
        aopc(network, *batch, steps=-1, region=5)
    with pytest.raises(AdvfoolError, match=r"^region must be a whole number of at least 1, got 0\.$"):
        aopc(network, *batch, region=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_maps_are_refused_with_the_image(network, batch, value):
    batch[2][1, 2, 3] = value
    message = "aopc needs heatmaps without NaN or infinite values, got NaN or infinite values in those of image "
    for index, name in ((None, 1), (INDEX, 2**40)):
        with pytest.raises(BadMaps, match=rf"^{message}{name}\. Leave these images out"):
            aopc(network, *batch, steps=2, region=REGION, index=index)


def test_words_and_ranges_are_checked(network, batch):
    with pytest.raises(AdvfoolError, match=r"^order must be one of most_relevant_first, .*, got 'morf'\.$"):
        aopc(network, *batch, order="morf")
    with pytest.raises(AdvfoolError, match=r"^replacement must be one of uniform, mean, blur, zero, got 'black'\.$"):
        aopc(network, *batch, replacement="black")
    message = (
        r"^aopc: pixel_range must be \(low, high\), each a number or 3 numbers, one for each channel of the images, "
    )
    with pytest.raises(AdvfoolError, match=message + r"got \(\[0.0, 0.0\], 1\)\.$"):
        aopc(network, *batch, steps=2, region=REGION, pixel_range=([0.0, 0.0], 1))
