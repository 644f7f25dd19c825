"""The faithfulness of both networks' heatmaps on a batch, with the random orders shared by all interpreters."""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from advfool.data.samples import ImageFormat, Sample
from advfool.evaluation.rows import Table, one_column_each
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


class RandomOrders:
    """The random orders of the regions of some images, run once on one network, which heatmaps are held against.

    Args:
        network: the network that the heatmaps are held against.
        images: as the network takes them.
        index: a whole number that identifies each image.
        targets: the explained class of each image, or both classes of each composite.
        settings: how regions are replaced.
        input: the format of the images.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Float[Tensor, "n c H W"],
        index: Int[Tensor, "n"],
        targets: Int[Tensor, "n *two"],
        settings: FaithfulnessSettings,
        input: ImageFormat,
    ) -> None:
        self.network, self.images, self.index, self.targets = network, images, index, targets
        self.settings, self.input = settings, input
        self.region, self.size = settings.region or region_of(images.shape), (images.shape[-2], images.shape[-1])
        cells = (self.size[0] // self.region) * (self.size[1] // self.region)
        self.values = self._run(shuffled(index, cells, settings.random_orders, settings.seed))

    def part(self, chosen: Bool[Tensor, "n"]) -> "RandomOrders":
        """Return the orders of some of the images; nothing is run again."""
        part = copy.copy(self)
        part.images, part.index, part.targets = self.images[chosen], self.index[chosen], self.targets[chosen]
        part.values = self.values[chosen]
        return part

    def judge(self, maps: Mapping[str, Float[Tensor, "n *two h w"]]) -> dict[str, Faithfulness]:
        """Compare any number of heatmaps of each image with its random orders.

        Args:
            maps: the heatmaps, by any name.

        Returns:
            the faithfulness of each heatmap, by name; with the dimensions of the targets.
        """
        if self.targets.dim() == 1:
            return self._judged(self.targets, self.values, maps)
        parts = [
            self._judged(classes, self.values[:, c], {name: each[:, c] for name, each in maps.items()})
            for c, classes in enumerate(self.targets.unbind(dim=1))
        ]
        return {
            name: Faithfulness(*(torch.stack(v, dim=1) for v in zip(*(p[name] for p in parts), strict=True)))
            for name in maps
        }

    def _judged(
        self, classes: Int[Tensor, "n"], random: Float[Tensor, "n orders"], maps: Mapping[str, Float[Tensor, "n h w"]]
    ) -> dict[str, Faithfulness]:
        if not maps:
            return {}
        place = (self.size, self.region, self.settings.seed, self.index)
        orders = [most_relevant_first(each.nan_to_num(0, 0, 0), *place) for each in maps.values()]
        values = self._of_class(classes, torch.stack(orders, dim=1))
        return {
            name: against_random(values[:, number], random, is_degenerate(each))
            for number, (name, each) in enumerate(maps.items())
        }

    def _run(self, orders: Int[Tensor, "n orders cells"]) -> Float[Tensor, "n *two orders"]:
        if self.targets.dim() == 1:
            return self._of_class(self.targets, orders)
        return torch.stack([self._of_class(classes, orders) for classes in self.targets.unbind(dim=1)], dim=1)

    def _of_class(self, classes: Int[Tensor, "n"], orders: Int[Tensor, "n orders cells"]) -> Float[Tensor, "n orders"]:
        return values_of_orders(
            self.network,
            self.images,
            classes,
            orders,
            self.settings.steps,
            self.settings.regions,
            self.region,
            self.settings.replacement,
            self.settings.insertion,
            self.settings.seed,
            self.index,
            self.input.pixel_range(),
        )


class Tested(NamedTuple):
    """What was found of the heatmaps of those images of a batch that are tested for faithfulness.

    Args:
        chosen: which images of the batch they are.
        orders: their random orders, on the network that the heatmaps explain.
        found: the faithfulness of the heatmaps, by interpreter.
    """

    chosen: Bool[Tensor, "batch"]
    orders: RandomOrders
    found: dict[str, Faithfulness]


def tested_on(
    networks: Mapping[str, nn.Module],
    batch: Sample,
    targets: Int[Tensor, "n *two"],
    maps: Maps,
    chosen: Int[Tensor, "k"],
    settings: FaithfulnessSettings,
    input: ImageFormat,
) -> dict[str, Tested]:
    """Measure whether heatmaps are faithful, each to the network that it explains.

    Args:
        networks: by name.
        batch: the images.
        targets: the explained class of each image, or both classes of each composite.
        maps: the heatmaps of the batch, by interpreter and network.
        chosen: indices of the images that are tested; others of the batch are not.
        settings: how regions are replaced.
        input: the format of the images.

    Returns:
        what was found, by network; nothing where no image of the batch is chosen.
    """
    which = torch.isin(batch.index, chosen.to(batch.index.device))
    if not which.any():
        return {}
    where, tested = (batch.image[which], batch.index[which], targets[which]), {}
    for name, network in networks.items():
        orders = RandomOrders(network, *where, settings, input)
        own = {interp: each[name][which].detach() for interp, each in maps.items()}
        tested[name] = Tested(which, orders, orders.judge(own))
    return tested


def faithfulness_columns(tested: Mapping[str, Tested], maps: Maps) -> Table:
    """Make the columns of a batch; images that are not tested are NaN.

    Args:
        tested: what was found, by network.
        maps: the heatmaps of the batch, by interpreter and network.

    Returns:
        for each interpreter and network the columns `faithfulness` (NaN where the heatmap is not finite) and
        `faithful` (0 or 1), with one value for each explained class.
    """
    columns: Table = {}
    for network, (chosen, _, judged) in tested.items():
        for interp, found in judged.items():
            finite = maps[interp][network][chosen].isfinite().flatten(-2).all(dim=-1)
            values = {"faithfulness": found.value.float().where(finite, torch.nan), "faithful": found.faithful.float()}
            for key, value in values.items():
                column = value.new_full((len(chosen), *value.shape[1:]), torch.nan)
                column[chosen] = value
                columns[f"{key}/{interp}/{network}"] = column
    return one_column_each(columns)
