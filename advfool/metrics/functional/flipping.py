"""AOPC: how fast a prediction falls when the regions that a heatmap ranks highest are replaced."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from advfool.metrics.functional.checks import refuse
from advfool.utilities.classes import check_targets
from advfool.utilities.errors import AdvfoolError, check_choice
from advfool.utilities.heatmaps import is_finite, normalise, resize
from advfool.utilities.random import fingerprint, uniform

Order = Literal["most_relevant_first", "least_relevant_first", "random"]
Replacement = Literal["uniform", "mean", "blur", "zero"]
PixelRange = tuple[float | Sequence[float], float | Sequence[float]] | Sequence[float | Sequence[float]]

_NOISE, _ORDER = 0, 1  # streams of random numbers
_BLUR, _BLUR_SIGMA = 11, 5.0  # pixels, as RISE (Petsiuk et al. 2018) blurs


@torch.no_grad()
def aopc(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c H W"],
    targets: Int[Tensor, "_"],  # n, and so the other two: checked, to say what was expected
    heatmaps: Float[Tensor, "_ h w"],
    steps: int = 100,
    region: int = 9,
    order: str = "most_relevant_first",
    replacement: str = "uniform",
    seed: int = 0,
    index: Int[Tensor, "_"] | None = None,
    pixel_range: PixelRange | None = None,
) -> Float[Tensor, "n k"]:
    """Curves of `f(x_0) - f(x_k)`, k = 0 to `steps`, in float64; f is the softmax probability of the target class.

    x_k is the image with its k first regions replaced. Regions are squares of `region` pixels from the top left
    corner on; what is left at the right and at the bottom stays as it is. A region's relevance is the mean of the
    heatmap there, made as large as the image first. Ties, among them all regions of a constant map, are in random
    order.

    Args:
        model: gives logits; runs steps + 1 times, in the mode (train or eval) it is in.
        targets: the explained class of each image.
        order: most_relevant_first, least_relevant_first, or random.
        replacement: uniform (noise in `pixel_range`), mean (the image's own mean colour), blur (the blurred image:
            Gaussian, 11 pixels a side, sigma 5) or zero.
        seed: with `index` (whole numbers that identify the images; default: numbers made of their pixels) the source
            of all random numbers, so that a curve depends neither on the batch that its image is in nor on the process.
        pixel_range: lowest and highest value that pixels can have, as the network takes them, each one number or
            one for each channel; default: each image's own range, for each channel.

    Raises:
        BadMaps: a heatmap has NaN or infinite values; names the image.
        AdvfoolError: steps that are negative or more than there are regions, a word that is no order or replacement, a
            target that is no class, or not as many targets, heatmaps or indices as images.

    Source: Samek et al. 2017, region perturbation (MoRF) with 9x9 regions, 100 steps and uniform noise (drawn once).
    """
    check_choice("order", order, Order)
    check_choice("replacement", replacement, Replacement)
    _check_regions(steps, region, images.shape[-2:])
    _check_counts(len(images), targets=targets, heatmaps=heatmaps, index=index)
    names = None if index is None else index.tolist()
    refuse("aopc", "those", "NaN or infinite values", ~is_finite(heatmaps), names)
    if not len(images):
        return torch.zeros(0, steps + 1, dtype=torch.float64, device=images.device)
    index = (fingerprint(images) if index is None else index).to(images.device)

    corner, offset = _places(images.shape, region, images.device)
    cells = _ranked(heatmaps.to(images.device), images.shape[-2:], region, order, seed, index)[:, :steps]
    fill = _filler(images, replacement, seed, index, pixel_range)
    replaced = images.clone(memory_format=torch.contiguous_format)
    pixels = replaced.view(len(images), -1)
    logits = model(replaced)
    check_targets(targets, logits.shape[1])
    scores = [_probability(logits, targets)]
    for start in corner[cells].unbind(dim=1):
        at = start[:, None] + offset
        pixels.scatter_(1, at, fill(at))
        scores.append(_probability(model(replaced), targets))
    return scores[0][:, None] - torch.stack(scores, dim=1)


def aopc_value(curves: Float[Tensor, "n k"]) -> Float[Tensor, "n"]:
    """AOPC of each image: the mean of its curve, `1 / (L + 1) sum_k (f(x_0) - f(x_k))`, from -1 to 1.

    Source: Samek et al. 2017 (area over the MoRF perturbation curve).

    >>> aopc_value(torch.tensor([[0.0, 0.25, 0.5]]))
    tensor([0.2500])
    """
    return curves.mean(dim=1)


def _check_regions(steps: int, region: int, size: Sequence[int]) -> None:
    if region < 1:
        raise AdvfoolError(f"aopc: region must be at least 1 pixel, got {region}.")
    height, width = size
    rows, cols = height // region, width // region
    if not 0 <= steps <= rows * cols:
        raise AdvfoolError(
            f"aopc: steps must be from 0 to {rows * cols} ({rows}x{cols} regions of {region}x{region} pixels in an "
            f"image of {height}x{width}), got {steps}. Use fewer steps or smaller regions."
        )


def _check_counts(n: int, **given: Shaped[Tensor, "..."] | None) -> None:
    for name, values in given.items():
        if values is not None and len(values) != n:
            raise AdvfoolError(f"aopc: expected {name} for each of {n} images, got {len(values)}.")


def _places(shape: Sequence[int], region: int, device: torch.device) -> tuple[Int[Tensor, "cells"], Int[Tensor, "1 p"]]:
    """Where each region starts in a flattened image, and its pixels (of all channels) from there on."""
    _, channels, height, width = shape
    row, col = torch.arange(height // region) * region, torch.arange(width // region) * region
    inside, channel = torch.arange(region), torch.arange(channels)
    corner = (row[:, None] * width + col).flatten()
    offset = channel[:, None, None] * height * width + inside[:, None] * width + inside
    return corner.to(device), offset.view(1, -1).to(device)


def _ranked(
    heatmaps: Float[Tensor, "n h w"],
    size: Sequence[int],
    region: int,
    order: str,
    seed: int,
    index: Int[Tensor, "n"],
) -> Int[Tensor, "n cells"]:
    """The numbers of the regions, row by row from 0, in the order of their replacement."""
    maps = normalise(heatmaps.double(), "minmax")
    if maps.shape[1:] != tuple(size):
        maps = resize(maps, tuple(size))
    relevance = F.avg_pool2d(maps[:, None], region).flatten(1).float()  # equal despite rounding
    cells = torch.arange(relevance.shape[1], device=maps.device)[None]
    shuffled = uniform(seed, index, cells, stream=_ORDER).argsort(dim=1)
    if order == "random":
        return shuffled
    ranked = relevance.gather(1, shuffled).argsort(dim=1, descending=order == "most_relevant_first", stable=True)
    return shuffled.gather(1, ranked)


def _filler(
    images: Float[Tensor, "n c H W"],
    replacement: str,
    seed: int,
    index: Int[Tensor, "n"],
    pixel_range: PixelRange | None,
) -> Callable[[Int[Tensor, "n p"]], Float[Tensor, "n p"]]:
    """What is put at places of the flattened images."""
    area = images.shape[2] * images.shape[3]
    if replacement == "zero":
        return lambda at: torch.zeros_like(at, dtype=images.dtype)
    if replacement == "mean":
        colour = images.mean(dim=(2, 3))
        return lambda at: colour.gather(1, at // area)
    if replacement == "blur":
        blurred = _blurred(images).flatten(1)
        return lambda at: blurred.gather(1, at)
    low, high = _range(images, pixel_range)

    def noise(at: Int[Tensor, "n p"]) -> Float[Tensor, "n p"]:
        channel = at // area
        weight = uniform(seed, index, at, stream=_NOISE)
        return torch.lerp(low.gather(1, channel), high.gather(1, channel), weight).to(images.dtype)

    return noise


def _range(
    images: Float[Tensor, "n c H W"], pixel_range: PixelRange | None
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    if pixel_range is None:
        return images.amin(dim=(2, 3)).double(), images.amax(dim=(2, 3)).double()
    low, high = (torch.tensor(end, dtype=torch.float64, device=images.device) for end in pixel_range)
    channels = images.shape[1]
    if any(end.shape not in ((), (channels,)) for end in (low, high)):
        raise AdvfoolError(
            f"aopc: pixel_range must be (low, high), each a number or {channels} numbers, one for each channel of the "
            f"images, got {pixel_range!r}."
        )
    return low.expand(images.shape[:2]), high.expand(images.shape[:2])


def _blurred(images: Float[Tensor, "n c H W"]) -> Float[Tensor, "n c H W"]:
    """The window is cut to what can be mirrored at the edges of a small image."""
    exact = images.to(torch.promote_types(images.dtype, torch.float32))
    side = min(_BLUR, 2 * min(images.shape[-2:]) - 1)
    return gaussian_blur(exact, [side, side], [_BLUR_SIGMA, _BLUR_SIGMA]).to(images.dtype)


def _probability(logits: Float[Tensor, "n k"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    return logits.double().softmax(dim=1).gather(1, targets[:, None])[:, 0]
