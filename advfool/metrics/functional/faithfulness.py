"""Faithfulness: whether the regions that a heatmap ranks highest matter more to the network than random ones."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from advfool.metrics.functional.checks import refuse
from advfool.metrics.functional.regions import PixelRange, Replacement, check_counts, filler, probability, ranked
from advfool.utilities.checking import checked
from advfool.utilities.classes import Targets, read_targets
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import is_degenerate, is_finite
from advfool.utilities.kinds import Count, Seed
from advfool.utilities.modules import in_eval_mode
from advfool.utilities.outputs import logits_of
from advfool.utilities.random import fingerprint, uniform
from advfool.utilities.ranking import ranks

CELLS = 8  # regions along the shorter side of an image, where their size is not given
_BLUR = 0.1  # standard deviation of the blur, as a share of the image's shorter side
_HIGHEST = 8  # power of the ranks: so much more do the highest values count
_RANDOM = 2  # first stream of the random orders; those below are taken by noise and ties


class Faithfulness(NamedTuple):
    """Whether the heatmaps of some images are faithful to a network.

    Args:
        value: AOPC of the heatmap less the mean AOPC of the random orders, from -2 to 2.
        faithful: whether the heatmap's AOPC is above that of every random order; false for a constant heatmap.
    """

    value: Float[Tensor, "n"]
    faithful: Bool[Tensor, "n"]


@checked
@torch.no_grad()
def faithfulness(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c H W"],
    targets: Targets,
    heatmaps: Float[Tensor, "_ h w"],
    random_orders: Count = 8,
    steps: Count = 8,
    regions: Count = 2,
    region: Count | None = None,
    replacement: Replacement = "blur",
    insertion: bool = False,
    seed: Seed = 0,
    index: Int[Tensor, "_"] | None = None,
    pixel_range: PixelRange | None = None,
) -> Faithfulness:
    """Compare the AOPC of each heatmap with that of random orders of the same regions, on the same network.

    A heatmap is faithful when it beats every random order. One that says nothing about the network does so on about
    one image in `random_orders + 1`: that share is the ceiling of noise, and no zero.

    Only the order of a heatmap's values counts, and the highest ones most: the relevance of a region is the mean of
    its values' ranks (as fractions of the number of values) to the eighth power. A heatmap that is merely sharpened
    says the same and is exactly as faithful.

    Args:
        model: the network that the heatmaps explain; it is run about `steps * (random_orders + 1)` times.
        images: as the network takes them.
        targets: the explained class of each image; see `read_targets`.
        heatmaps: one for each image, of any size.
        random_orders: number of random orders, each of its own for every image.
        steps: points of a curve after its first one.
        regions: number of regions that each step replaces.
        region: side of a region in pixels; None for an eighth of the image's shorter side.
        replacement: `blur` (the image blurred by a Gaussian of a tenth of its shorter side), or `uniform`, `mean` or
            `zero` as in `aopc`.
        insertion: whether curves start at the image with all regions replaced and put the most relevant ones back,
            instead of starting at the image and taking them away.
        seed: decides, together with `index`, all random numbers.
        index: a whole number that identifies each image; None for numbers computed from the pixels.
        pixel_range: lowest and highest value of the pixels, for `uniform`; see `aopc`.

    Raises:
        BadMaps: a heatmap has NaN or infinite values; names the image.
        AdvfoolError: there are fewer regions than are replaced, or a setting or a target is out of range.

    Source: Samek et al. 2017 (AOPC against random orders); Petsiuk et al. 2018 (insertion).
    """
    check_counts(len(images), heatmaps=heatmaps, index=index)
    refuse("faithfulness", "those", "NaN or infinite values", ~is_finite(heatmaps), None)
    refuse("faithfulness", "those", "NaN or infinite values", ~is_finite(images), None, "images")
    index = (fingerprint(images) if index is None else index).to(images.device)
    region = region or region_of(images.shape)
    size = (images.shape[-2], images.shape[-1])
    own = most_relevant_first(heatmaps.to(images.device), size, region, seed, index)
    orders = torch.cat([own[:, None], shuffled(index, own.shape[1], random_orders, seed)], dim=1)
    values = values_of_orders(
        model, images, targets, orders, steps, regions, region, replacement, insertion, seed, index, pixel_range
    )
    return against_random(values[:, 0], values[:, 1:], is_degenerate(heatmaps).to(values.device))


def against_random(
    own: Float[Tensor, "n"], random: Float[Tensor, "n orders"], degenerate: Bool[Tensor, "n"]
) -> Faithfulness:
    """Compare the AOPC of each image's heatmap with those of its random orders.

    Args:
        own: AOPC of the heatmap.
        random: AOPC of each random order.
        degenerate: heatmaps that are constant, which have no order of their own.
    """
    return Faithfulness(own - random.mean(dim=1), (own > random.amax(dim=1)) & ~degenerate)


def most_relevant_first(
    heatmaps: Float[Tensor, "n h w"], size: tuple[int, int], region: int, seed: int, index: Int[Tensor, "n"]
) -> Int[Tensor, "n cells"]:
    """Put the regions of each image in the order of what the heatmap's values there rank at, the highest most.

    Args:
        heatmaps: of any size, without NaN.
        size: height and width of the images, in pixels.
        region: side of a region in pixels.
        seed: decides the order of equal regions, together with the index.
        index: a whole number that identifies each image.
    """
    share = ranks(heatmaps.flatten(1)).view(heatmaps.shape) / max(1, heatmaps[0].numel() if len(heatmaps) else 1)
    return ranked(share**_HIGHEST, size, region, "most_relevant_first", seed, index)


def region_of(shape: tuple[int, ...] | torch.Size) -> int:
    """Return the side of a region in pixels for images of (..., height, width): an eighth of the shorter side."""
    return max(1, min(shape[-2:]) // CELLS)


def shuffled(index: Int[Tensor, "n"], cells: int, orders: int, seed: int) -> Int[Tensor, "n orders cells"]:
    """Draw random orders of the regions, the same for an image whatever the batch and the network.

    Args:
        index: a whole number that identifies each image.
        cells: number of regions.
        orders: number of orders.
        seed: decides them together with the index.
    """
    place = torch.arange(cells, device=index.device)[None]
    drawn = [uniform(seed, index, place, stream=_RANDOM + order).argsort(dim=1) for order in range(orders)]
    return torch.stack(drawn, dim=1)


@torch.no_grad()
def values_of_orders(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c H W"],
    targets: Targets,
    orders: Int[Tensor, "n orders cells"],
    steps: int,
    regions: int,
    region: int,
    replacement: str,
    insertion: bool,
    seed: int,
    index: Int[Tensor, "n"],
    pixel_range: PixelRange | None,
) -> Float[Tensor, "n orders"]:
    """Compute the AOPC of each order of an image's regions; a network is in eval mode meanwhile.

    Args:
        model: as `faithfulness` takes it, and so are the arguments after `orders`.
        images: as the network takes them.
        targets: the class of each image.
        orders: numbers of the regions, counted row by row from 0, in the order of their replacement.
        steps: points of a curve after its first one.
        regions: number of regions that each step replaces.
        region: side of a region in pixels.
        replacement: what regions are replaced with.
        insertion: whether regions are put back instead of taken away.
        seed: decides the noise, together with the index.
        index: a whole number that identifies each image.
        pixel_range: of the noise.

    Raises:
        AdvfoolError: there are fewer regions than are replaced, or a target is no class.
    """
    n, count, cells = orders.shape
    check_replaced(steps, regions, region, images.shape)
    if not n:
        return torch.zeros(0, count, dtype=torch.float64, device=images.device)
    side = min(images.shape[-2:])
    everywhere = torch.arange(images[0].numel(), device=images.device).expand(n, -1)
    blur = (2 * round(2 * _BLUR * side) + 1, max(_BLUR * side, 0.5))
    fill = filler(images, replacement, seed, index, pixel_range, blur)(everywhere).view_as(images)
    places = torch.arange(cells, device=orders.device).expand_as(orders)
    rank = torch.empty_like(orders).scatter_(2, orders, places)
    bare = _mixed(images, fill, rank[:, 0] >= 0, region)
    start, end = (bare, images) if insertion else (images, fill)
    totals = []
    with in_eval_mode(model) if isinstance(model, nn.Module) else nullcontext():
        logits = logits_of(model(start), n)
        classes = read_targets(targets, n, logits.shape[1], logits.device)
        first = probability(logits, classes)
        for each in rank.unbind(dim=1):
            change = torch.zeros_like(first)
            for step in range(1, steps + 1):
                picture = _mixed(start, end, each < regions * step, region)
                change += probability(logits_of(model(picture), n), classes) - first
            totals.append((change if insertion else -change) / (steps + 1))
    return torch.stack(totals, dim=1)


def check_replaced(steps: int, regions: int, region: int, shape: tuple[int, ...] | torch.Size) -> None:
    """Raise an AdvfoolError where an image of (..., height, width) has fewer regions than are replaced."""
    height, width = shape[-2:]
    cells = (height // region) * (width // region)
    if steps * regions > cells:
        raise AdvfoolError(
            f"faithfulness: {steps} steps of {regions} regions replace {steps * regions}, but an image of "
            f"{height}x{width} has {cells} regions of {region}x{region} pixels. Use fewer steps "
            "(faithfulness.steps=...), fewer regions a step (faithfulness.regions=...) or smaller regions "
            "(faithfulness.region=...)."
        )


def _mixed(
    start: Float[Tensor, "n c H W"], end: Float[Tensor, "n c H W"], chosen: Bool[Tensor, "n cells"], region: int
) -> Float[Tensor, "n c H W"]:
    """Take the chosen regions from one picture and everything else from another one."""
    n, _, height, width = start.shape
    rows, cols = height // region, width // region
    mask = torch.zeros(n, 1, height, width, dtype=torch.bool, device=start.device)
    large = chosen.view(n, 1, rows, cols).repeat_interleave(region, 2).repeat_interleave(region, 3)
    mask[..., : rows * region, : cols * region] = large
    return torch.where(mask, end, start)
