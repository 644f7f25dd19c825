"""AOPC: the fall of a predicted probability while the regions that a heatmap ranks highest are replaced."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from advfool.metrics.facts import metric
from advfool.metrics.functional.checks import refuse
from advfool.utilities.checking import checked
from advfool.utilities.classes import Targets, read_targets
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import is_finite, normalise, resize
from advfool.utilities.kinds import Count, Seed, Size, Words
from advfool.utilities.modules import in_eval_mode
from advfool.utilities.outputs import logits_of
from advfool.utilities.random import fingerprint, uniform

Order = Literal["most_relevant_first", "least_relevant_first", "random"]
Replacement = Literal["uniform", "mean", "blur", "zero"]
PixelRange = Annotated[
    tuple[float | Sequence[float], float | Sequence[float]],
    Words("(lowest, highest), each a number or one for each channel"),
]

_NOISE, _ORDER = 0, 1  # streams of random numbers
_BLUR, _BLUR_SIGMA = 11, 5.0  # pixels, as RISE (Petsiuk et al. 2018) blurs


@checked
@torch.no_grad()
def aopc(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c H W"],
    targets: Targets,
    heatmaps: Float[Tensor, "_ h w"],  # `_` is n, which is checked below with a message of its own
    steps: Size = 100,
    region: Count = 9,
    order: Order = "most_relevant_first",
    replacement: Replacement = "uniform",
    seed: Seed = 0,
    index: Int[Tensor, "_"] | None = None,
    pixel_range: PixelRange | None = None,
) -> Float[Tensor, "n k"]:
    """Compute curves of `f(x_0) - f(x_k)` for k = 0 to `steps`, with f the softmax probability of the target class.

    x_k is the image with its first k regions replaced. Regions are squares from the top left corner on; pixels that
    are left over at the right and at the bottom are never replaced. The relevance of a region is the mean of the
    heatmap there, after the heatmap was resized to the image. Regions of equal relevance (in a constant map, all) are
    in random order.

    Args:
        model: gives logits; it is run steps + 1 times, a network in eval mode; its mode is restored.
        images: as the network takes them.
        targets: the explained class of each image; see `read_targets`.
        heatmaps: one for each image, of any size.
        steps: number of regions that are replaced.
        region: side of a region in pixels.
        order: `most_relevant_first`, `least_relevant_first` or `random`.
        replacement: `uniform` (noise in `pixel_range`), `mean` (the image's mean colour), `blur` (the image blurred by
            a Gaussian of 11x11 pixels and standard deviation 5) or `zero`.
        seed: decides, together with `index`, all random numbers. A curve does not depend on the other images of the
            batch, nor on the process.
        index: a whole number that identifies each image; None for numbers computed from the pixels.
        pixel_range: lowest and highest value of the pixels, as the network takes them, each one number or one for each
            channel; None for the range of each image and channel.

    Returns:
        A curve in float64 for each image.

    Raises:
        BadMaps: a heatmap has NaN or infinite values; names the image.
        AdvfoolError: there are fewer regions than steps, `order` or `replacement` is not one of the words, a target is
            no class, or the numbers of targets, heatmaps or indices and of images differ.

    Source: Samek et al. 2017, region perturbation (MoRF) with 9x9 regions, 100 steps and uniform noise (drawn once).
    """
    _check_regions(steps, region, images.shape[-2:])
    _check_counts(len(images), heatmaps=heatmaps, index=index)
    names = None if index is None else index.tolist()
    refuse("aopc", "those", "NaN or infinite values", ~is_finite(heatmaps), names)
    refuse("aopc", "those", "NaN or infinite values", ~is_finite(images), names, "images")
    if not len(images):
        return torch.zeros(0, steps + 1, dtype=torch.float64, device=images.device)
    index = (fingerprint(images) if index is None else index).to(images.device)

    corner, offset = _places(images.shape, region, images.device)
    cells = _ranked(heatmaps.to(images.device), images.shape[-2:], region, order, seed, index)[:, :steps]
    fill = _filler(images, replacement, seed, index, pixel_range)
    replaced = images.clone(memory_format=torch.contiguous_format)
    pixels = replaced.view(len(images), -1)
    with in_eval_mode(model) if isinstance(model, nn.Module) else nullcontext():
        logits = logits_of(model(replaced), len(images))
        classes = read_targets(targets, len(images), logits.shape[1], logits.device)
        scores = [_probability(logits, classes)]
        for start in corner[cells].unbind(dim=1):
            at = start[:, None] + offset
            pixels.scatter_(1, at, fill(at))
            scores.append(_probability(logits_of(model(replaced), len(images)), classes))
    return scores[0][:, None] - torch.stack(scores, dim=1)


@checked
def aopc_value(curves: Float[Tensor, "n k"]) -> Float[Tensor, "n"]:
    """Compute the AOPC of each image: the mean of its curve, `1 / (L + 1) sum_k (f(x_0) - f(x_k))`.

    Args:
        curves: as `aopc` returns them; L is the number of steps.

    Returns:
        A value from -1 to 1 for each image.

    Source: Samek et al. 2017 (area over the MoRF perturbation curve).

    >>> aopc_value(torch.tensor([[0.0, 0.25, 0.5]]))
    tensor([0.2500])
    """
    return curves.mean(dim=1)


@metric(name="aopc", needs=("network",), direction="higher", range=(-1, 1))
@checked
def aopc_of_images(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c H W"],
    targets: Targets,
    heatmaps: Float[Tensor, "_ h w"],
    **settings: Any,
) -> Float[Tensor, "n"]:
    """Compute the AOPC of each image, without its curve.

    Args:
        model: gives logits.
        images: as the network takes them.
        targets: the explained class of each image.
        heatmaps: one for each image, of any size.
        settings: further arguments of `aopc`.

    Returns:
        A value from -1 to 1 for each image.

    Raises:
        BadMaps: a heatmap has NaN or infinite values; names the image.
        AdvfoolError: a setting or a target is out of range.

    Source: Samek et al. 2017 (area over the MoRF perturbation curve).
    """
    return aopc_value(aopc(model, images, targets, heatmaps, **settings))


def _check_regions(steps: int, region: int, size: Sequence[int]) -> None:
    height, width = size
    rows, cols = height // region, width // region
    if steps > rows * cols:
        raise AdvfoolError(
            f"aopc: steps must be from 0 to {rows * cols} ({rows}x{cols} regions of {region}x{region} pixels in an "
            f"image of {height}x{width}), got {steps}. Use fewer steps or smaller regions."
        )


def _check_counts(n: int, **given: Shaped[Tensor, "..."] | None) -> None:
    for name, values in given.items():
        if values is not None and len(values) != n:
            raise AdvfoolError(f"aopc: expected {name} for each of {n} images, got {len(values)}.")


def _places(shape: Sequence[int], region: int, device: torch.device) -> tuple[Int[Tensor, "cells"], Int[Tensor, "1 p"]]:
    """Return where each region starts in a flattened image, and where its pixels (of all channels) are from there."""
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
    """Return the regions, numbered row by row from 0, in the order of their replacement."""
    maps = normalise(heatmaps.double(), "minmax")
    height, width = size
    if maps.shape[1:] != (height, width):
        maps = resize(maps, (height, width))
    relevance = (
        F.avg_pool2d(maps[:, None], region).flatten(1).float()
    )  # float32 makes means equal that differ in rounding only
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
    """Return a function that gives the values with which positions of the flattened images are replaced."""
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
    if any(end.shape not in ((), (channels,)) for end in (low, high)) or bool((low > high).any()):
        raise AdvfoolError(
            f"aopc: pixel_range must be (low, high), each a number or {channels} numbers, one for each channel of the "
            f"images, got {pixel_range!r}."
        )
    return low.expand(images.shape[:2]), high.expand(images.shape[:2])


def _blurred(images: Float[Tensor, "n c H W"]) -> Float[Tensor, "n c H W"]:
    """Blur the images; the window is cut to what can be mirrored at the edges of a small image."""
    exact = images.to(torch.promote_types(images.dtype, torch.float32))
    side = min(_BLUR, 2 * min(images.shape[-2:]) - 1)
    return gaussian_blur(exact, [side, side], [_BLUR_SIGMA, _BLUR_SIGMA]).to(images.dtype)


def _probability(logits: Float[Tensor, "n k"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    return logits.double().softmax(dim=1).gather(1, targets[:, None])[:, 0]
