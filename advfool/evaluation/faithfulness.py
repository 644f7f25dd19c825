"""The faithfulness of both networks' heatmaps on a batch, with the random orders shared by all interpreters."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.data.samples import ImageFormat
from advfool.evaluation.paired import NETWORKS
from advfool.evaluation.rows import Table
from advfool.evaluation.setup import FaithfulnessSettings
from advfool.metrics.functional.faithfulness import (
    Faithfulness,
    against_random,
    most_relevant_first,
    region_of,
    shuffled,
    values_of_orders,
)
from advfool.utilities.heatmaps import is_degenerate

Maps = Mapping[str, Mapping[str, Float[Tensor, "n *two h w"]]]  # by interpreter and network


def faithfulness_columns(
    networks: Mapping[str, nn.Module],
    images: Float[Tensor, "n c H W"],
    index: Int[Tensor, "n"],
    targets: Int[Tensor, "n *two"],
    maps: Maps,
    settings: FaithfulnessSettings,
    input: ImageFormat,
) -> Table:
    """Measure the faithfulness of heatmaps, each on the network that it explains.

    Args:
        networks: by name.
        images: as the networks take them.
        index: a whole number that identifies each image.
        targets: the explained class of each image, or both classes of each composite.
        maps: the heatmaps, by interpreter and network.
        settings: how regions are replaced.
        input: the format of the images.

    Returns:
        for each interpreter and network the columns `faithfulness` (NaN where the heatmap is not finite) and
        `faithful` (0 or 1), with one value for each explained class.
    """
    columns: Table = {}
    for network in NETWORKS:
        own = {interp: each[network].detach() for interp, each in maps.items()}
        for interp, found in faithful_on(networks[network], images, index, targets, own, settings, input).items():
            finite = own[interp].isfinite().flatten(-2).all(dim=-1)
            columns[f"faithfulness/{interp}/{network}"] = found.value.float().where(finite, torch.nan)
            columns[f"faithful/{interp}/{network}"] = found.faithful.float()
    return columns


def faithful_on(
    network: nn.Module,
    images: Float[Tensor, "n c H W"],
    index: Int[Tensor, "n"],
    targets: Int[Tensor, "n *two"],
    maps: Mapping[str, Float[Tensor, "n *two h w"]],
    settings: FaithfulnessSettings,
    input: ImageFormat,
) -> dict[str, Faithfulness]:
    """Compare any number of heatmaps of each image with the same random orders, on one network.

    Args:
        network: the network that the heatmaps are held against.
        images: as the network takes them.
        index: a whole number that identifies each image.
        targets: the explained class of each image, or both classes of each composite.
        maps: the heatmaps, by any name.
        settings: how regions are replaced.
        input: the format of the images.

    Returns:
        the faithfulness of each heatmap, by name; with the dimensions of `targets`.
    """
    if targets.dim() == 1:
        return _of_class(network, images, index, targets, maps, settings, input)
    parts = [
        _of_class(network, images, index, classes, {k: each[:, c] for k, each in maps.items()}, settings, input)
        for c, classes in enumerate(targets.unbind(dim=1))
    ]
    return {
        name: Faithfulness(*(torch.stack(v, dim=1) for v in zip(*(p[name] for p in parts), strict=True)))
        for name in maps
    }


def _of_class(
    network: nn.Module,
    images: Float[Tensor, "n c H W"],
    index: Int[Tensor, "n"],
    classes: Int[Tensor, "n"],
    maps: Mapping[str, Float[Tensor, "n h w"]],
    settings: FaithfulnessSettings,
    input: ImageFormat,
) -> dict[str, Faithfulness]:
    size = (images.shape[-2], images.shape[-1])
    region, seed = settings.region or region_of(images.shape), settings.seed
    own = [most_relevant_first(each.nan_to_num(0, 0, 0), size, region, seed, index) for each in maps.values()]
    random = shuffled(index, own[0].shape[1], settings.random_orders, seed)
    values = values_of_orders(
        network,
        images,
        classes,
        torch.cat([torch.stack(own, dim=1), random], dim=1),
        settings.steps,
        settings.regions,
        region,
        settings.replacement,
        settings.insertion,
        seed,
        index,
        input.pixel_range(),
    )
    return {
        name: against_random(values[:, place], values[:, len(maps) :], is_degenerate(each))
        for place, (name, each) in enumerate(maps.items())
    }
