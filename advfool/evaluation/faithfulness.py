"""The faithfulness of both networks' heatmaps on a batch, with the random orders shared by all interpreters."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.data.samples import ImageFormat
from advfool.evaluation.paired import NETWORKS
from advfool.evaluation.rows import Table
from advfool.evaluation.setup import FaithfulnessSettings
from advfool.metrics.functional.faithfulness import against_random, region_of, shuffled, values_of_orders
from advfool.metrics.functional.regions import ranked
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
        classes = targets if targets.dim() == 2 else targets[:, None]
        parts = [
            _of_class(networks[network], images, index, classes[:, c], _of(maps, network, c), settings, input)
            for c in range(classes.shape[1])
        ]
        for name in parts[0]:
            values = torch.stack([part[name] for part in parts], dim=1)
            columns[f"{name}/{network}"] = values if targets.dim() == 2 else values[:, 0]
    return columns


def _of(maps: Maps, network: str, c: int) -> dict[str, Float[Tensor, "n h w"]]:
    found = {interp: each[network].detach() for interp, each in maps.items()}
    return {interp: each[:, c] if each.dim() == 4 else each for interp, each in found.items()}


def _of_class(
    network: nn.Module,
    images: Float[Tensor, "n c H W"],
    index: Int[Tensor, "n"],
    classes: Int[Tensor, "n"],
    maps: Mapping[str, Float[Tensor, "n h w"]],
    settings: FaithfulnessSettings,
    input: ImageFormat,
) -> Table:
    size = (images.shape[-2], images.shape[-1])
    region = settings.region or region_of(images.shape)
    seed = settings.seed
    orders = [
        ranked(each.float().nan_to_num(0, 0, 0), size, region, "most_relevant_first", seed, index)
        for each in maps.values()
    ]
    random = shuffled(index, orders[0].shape[1], settings.random_orders, seed)
    values = values_of_orders(
        network,
        images,
        classes,
        torch.cat([torch.stack(orders, dim=1), random], dim=1),
        settings.steps,
        settings.regions,
        region,
        settings.replacement,
        settings.insertion,
        seed,
        index,
        input.pixel_range(),
    )
    columns: Table = {}
    for place, (interp, each) in enumerate(maps.items()):
        found = against_random(values[:, place], values[:, len(maps) :], is_degenerate(each))
        finite = each.flatten(1).isfinite().all(dim=1)
        columns[f"faithfulness/{interp}"] = found.value.float().where(finite, torch.nan)
        columns[f"faithful/{interp}"] = found.faithful.float()
    return columns
