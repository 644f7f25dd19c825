"""AOPC: the fall of a predicted probability while the regions that a heatmap ranks highest are replaced."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.metrics.facts import metric
from advfool.metrics.functional.checks import refuse
from advfool.metrics.functional.regions import (
    Order,
    PixelRange,
    Replacement,
    check_counts,
    check_regions,
    filler,
    places,
    probability,
    ranked,
)
from advfool.utilities.checking import checked
from advfool.utilities.classes import Targets, read_targets
from advfool.utilities.heatmaps import is_finite
from advfool.utilities.kinds import Count, Seed, Size
from advfool.utilities.modules import in_eval_mode
from advfool.utilities.outputs import logits_of
from advfool.utilities.random import fingerprint


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
    check_regions(steps, region, images.shape[-2:])
    check_counts(len(images), heatmaps=heatmaps, index=index)
    names = None if index is None else index.tolist()
    refuse("aopc", "those", "NaN or infinite values", ~is_finite(heatmaps), names)
    refuse("aopc", "those", "NaN or infinite values", ~is_finite(images), names, "images")
    if not len(images):
        return torch.zeros(0, steps + 1, dtype=torch.float64, device=images.device)
    index = (fingerprint(images) if index is None else index).to(images.device)

    corner, offset = places(images.shape, region, images.device)
    cells = ranked(heatmaps.to(images.device), images.shape[-2:], region, order, seed, index)[:, :steps]
    fill = filler(images, replacement, seed, index, pixel_range)
    replaced = images.clone(memory_format=torch.contiguous_format)
    pixels = replaced.view(len(images), -1)
    with in_eval_mode(model) if isinstance(model, nn.Module) else nullcontext():
        logits = logits_of(model(replaced), len(images))
        classes = read_targets(targets, len(images), logits.shape[1], logits.device)
        scores = [probability(logits, classes)]
        for start in corner[cells].unbind(dim=1):
            at = start[:, None] + offset
            pixels.scatter_(1, at, fill(at))
            scores.append(probability(logits_of(model(replaced), len(images)), classes))
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
