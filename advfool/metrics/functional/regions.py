"""The square regions of an image: their order by a heatmap, and what they are replaced with."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise, resize
from advfool.utilities.kinds import Words
from advfool.utilities.random import uniform

Order = Literal["most_relevant_first", "least_relevant_first", "random"]
Replacement = Literal["uniform", "mean", "blur", "zero"]
PixelRange = Annotated[
    tuple[float | Sequence[float], float | Sequence[float]],
    Words("(lowest, highest), each a number or one for each channel"),
]

NOISE, ORDER = 0, 1  # streams of random numbers
BLUR = (11, 5.0)  # side of the window and standard deviation, in pixels, as RISE (Petsiuk et al. 2018) blurs


def check_regions(steps: int, region: int, size: Sequence[int]) -> None:
    """Raise an AdvfoolError where an image of (height, width) has fewer regions than steps."""
    height, width = size
    rows, cols = height // region, width // region
    if steps > rows * cols:
        raise AdvfoolError(
            f"aopc: steps must be from 0 to {rows * cols} ({rows}x{cols} regions of {region}x{region} pixels in an "
            f"image of {height}x{width}), got {steps}. Use fewer steps or smaller regions."
        )


def check_counts(n: int, **given: Shaped[Tensor, "..."] | None) -> None:
    """Raise an AdvfoolError where something is not given once for each of the n images."""
    for name, values in given.items():
        if values is not None and len(values) != n:
            raise AdvfoolError(f"aopc: expected {name} for each of {n} images, got {len(values)}.")


def places(shape: Sequence[int], region: int, device: torch.device) -> tuple[Int[Tensor, "cells"], Int[Tensor, "1 p"]]:
    """Return where each region starts in a flattened image, and where its pixels (of all channels) are from there."""
    _, channels, height, width = shape
    row, col = torch.arange(height // region) * region, torch.arange(width // region) * region
    inside, channel = torch.arange(region), torch.arange(channels)
    corner = (row[:, None] * width + col).flatten()
    offset = channel[:, None, None] * height * width + inside[:, None] * width + inside
    return corner.to(device), offset.view(1, -1).to(device)


def ranked(
    heatmaps: Float[Tensor, "n h w"],
    size: Sequence[int],
    region: int,
    order: str,
    seed: int,
    index: Int[Tensor, "n"],
) -> Int[Tensor, "n cells"]:
    """Return the regions, numbered row by row from 0, in the order of their replacement; equal ones in random order."""
    maps = normalise(heatmaps.double(), "minmax")
    height, width = size
    if maps.shape[1:] != (height, width):
        maps = resize(maps, (height, width))
    relevance = (
        F.avg_pool2d(maps[:, None], region).flatten(1).float()
    )  # float32 makes means equal that differ in rounding only
    cells = torch.arange(relevance.shape[1], device=maps.device)[None]
    shuffled = uniform(seed, index, cells, stream=ORDER).argsort(dim=1)
    if order == "random":
        return shuffled
    places = relevance.gather(1, shuffled).argsort(dim=1, descending=order == "most_relevant_first", stable=True)
    return shuffled.gather(1, places)


def filler(
    images: Float[Tensor, "n c H W"],
    replacement: str,
    seed: int,
    index: Int[Tensor, "n"],
    pixel_range: PixelRange | None,
    blur: tuple[int, float] = BLUR,
) -> Callable[[Int[Tensor, "n p"]], Float[Tensor, "n p"]]:
    """Return a function that gives the values with which positions of the flattened images are replaced."""
    area = images.shape[2] * images.shape[3]
    if replacement == "zero":
        return lambda at: torch.zeros_like(at, dtype=images.dtype)
    if replacement == "mean":
        colour = images.mean(dim=(2, 3))
        return lambda at: colour.gather(1, at // area)
    if replacement == "blur":
        blurred = _blurred(images, *blur).flatten(1)
        return lambda at: blurred.gather(1, at)
    low, high = _range(images, pixel_range)

    def noise(at: Int[Tensor, "n p"]) -> Float[Tensor, "n p"]:
        channel = at // area
        weight = uniform(seed, index, at, stream=NOISE)
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


def _blurred(images: Float[Tensor, "n c H W"], window: int, sigma: float) -> Float[Tensor, "n c H W"]:
    """Blur the images; the window is cut to what can be mirrored at the edges of a small image."""
    exact = images.to(torch.promote_types(images.dtype, torch.float32))
    side = min(window, 2 * min(images.shape[-2:]) - 1)
    return gaussian_blur(exact, [side, side], [sigma, sigma]).to(images.dtype)


def probability(logits: Float[Tensor, "n k"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Return the softmax probability of each target, in float64."""
    return logits.double().softmax(dim=1).gather(1, targets[:, None])[:, 0]
