"""Judges control heatmaps as if they were manipulated ones, on the images of a comparison."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from advfool.data.samples import Sample, take
from advfool.evaluation.controls import partners, transforms, untrained
from advfool.evaluation.faithfulness import RandomOrders, Tested
from advfool.evaluation.paired import Pair, explained_classes
from advfool.evaluation.rows import Table, one_column_each
from advfool.evaluation.setup import Setup
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import Recording, record
from advfool.metrics import functional as metrics

Maps = Mapping[str, Float[Tensor, "n *two h w"]]  # by interpreter
Compared = Mapping[str, Float[Tensor, "n *_two h w"]]  # what a fooling compares them with


class Nulls(nn.Module):
    """Measure what the success and the deceptive rate are of heatmaps that no attack made.

    Each control's heatmap takes the place of the manipulated one and is judged on the network whose heatmap it
    replaces: the original one; only `honest_finetune` is a network with heatmaps of its own.

    Args:
        setup: what is compared; its settings say which controls are computed.
        tested: indices of the images whose deceptive rate is measured.
    """

    def __init__(self, setup: Setup, tested: Int[Tensor, "t"]) -> None:
        super().__init__()
        self.setup, self.tested, self.settings = setup, tested, setup.settings.nulls
        networks = dict(setup.controls)
        if "untrained" in self.settings.controls:
            networks["untrained"] = untrained(setup.original, setup.settings.seed)
        self.networks = nn.ModuleDict(networks)
        made = transforms(setup.settings.seed)
        self.transforms = {name: made[name] for name in self.settings.controls if name in made}
        self.labels = setup.explained.labels() if "another_image" in self.settings.controls else None

    def columns(
        self,
        original: nn.Module,
        batch: Sample,
        pair: Pair,
        maps: Maps,
        compared: Compared,
        tested: Tested | None,
    ) -> Table:
        """Make a row for each image, with the columns `CONTROL/INTERPRETER/test_loss` and `.../deceived`.

        Args:
            original: the original network.
            batch: the images.
            pair: the forward passes of both networks on them.
            maps: the original network's heatmaps.
            compared: those of them that the fooling compares with.
            tested: what was found of their faithfulness, for those images of the batch that are tested for it.
        """
        interpreters = list(self.setup.interpreters.values())
        controls = self._on_original(original, batch, pair, maps, interpreters)
        logits = pair.logits["original"]
        explained = metrics.predicts(logits.argmax(dim=1), pair.targets)
        chosen = torch.isin(batch.index, self.tested.to(batch.index.device))
        row: Table = {"index": batch.index}
        everyone = torch.ones_like(explained)
        before: dict[str, Tensor] = {}
        after: dict[str, dict[str, Tensor]] = {}
        if tested is not None and chosen.any():
            own = chosen[tested.chosen]
            before = {interp: found.faithful[own] for interp, found in tested.found.items()}
            after = _faithful(tested.orders.part(own), controls, chosen)
        for control, found in controls.items():
            row |= self._judged(control, found, compared, everyone, explained, before, after.get(control), chosen)
        if "honest_finetune" in self.networks:
            network = self.networks["honest_finetune"]
            recording = record(network, batch.image, interpreters)
            found = self._read(recording, interpreters, pair.targets)
            same = recording.logits.argmax(dim=1) == logits.argmax(dim=1)
            kept = same.view(-1, *[1] * (pair.targets.dim() - 1)).expand_as(explained)
            own = self._faithful_to(network, batch, pair.targets, found, chosen) if before else None
            row |= self._judged("honest_finetune", found, compared, kept, explained, before, own, chosen)
        return {name: values.cpu() for name, values in one_column_each(row).items()}

    def _on_original(
        self, original: nn.Module, batch: Sample, pair: Pair, maps: Maps, interpreters: Sequence[Interpreter]
    ) -> dict[str, Maps]:
        """Make the heatmaps that stand for those of the original network, by control and interpreter."""
        controls: dict[str, Maps] = {}
        for name, transform in self.transforms.items():
            controls[name] = {interp: _each(transform, found, batch.index) for interp, found in maps.items()}
        if self.labels is not None:
            others = take(self.setup.explained, partners(self.labels, batch.index, self.setup.settings.seed))
            device = batch.image.device
            images, labels = others.image.to(device), others.label.to(device)
            recording = record(original, images, interpreters)
            classes = explained_classes(labels, self.setup.settings.target, recording.logits)
            controls["another_image"] = self._read(recording, interpreters, classes)
        for name in ("independent", "untrained"):
            if name in self.networks:
                recording = record(self.networks[name], batch.image, interpreters)
                controls[name] = self._read(recording, interpreters, pair.targets)
        return controls

    @staticmethod
    def _read(recording: Recording, interpreters: Sequence[Interpreter], targets: Int[Tensor, "n *two"]) -> Maps:
        return {interp.name: read_maps(interp, recording, targets).detach().float() for interp in interpreters}

    def _faithful_to(
        self,
        network: nn.Module,
        batch: Sample,
        targets: Int[Tensor, "n *two"],
        maps: Maps,
        chosen: Bool[Tensor, "n"],
    ) -> dict[str, Tensor]:
        """Tell of the chosen images whether a network's own heatmaps are faithful to it."""
        where = (batch.image[chosen], batch.index[chosen], targets[chosen])
        orders = RandomOrders(network, *where, self.setup.settings.faithfulness, self.setup.data.input)
        return _faithful(orders, {"": maps}, chosen)[""]

    def _judged(
        self,
        control: str,
        found: Maps,
        compared: Compared,
        kept: Bool[Tensor, "n *two"],
        explained: Bool[Tensor, "n *two"],
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor] | None,
        chosen: Bool[Tensor, "n"],
    ) -> Table:
        fooling, row = self.setup.fooling, {}
        for interp, original in compared.items():
            loss = fooling.test_loss(found[interp], original).float()
            row[f"{control}/{interp}/test_loss"] = loss
            deceived = torch.full_like(loss, torch.nan)
            if after:
                flags = (kept[chosen], explained[chosen], before[interp], after[interp])
                deceived[chosen] = metrics.deceived(loss[chosen], fooling.interval, *flags).to(deceived)
            row[f"{control}/{interp}/deceived"] = deceived
        return row


def _faithful(
    orders: RandomOrders, controls: Mapping[str, Maps], chosen: Bool[Tensor, "n"]
) -> dict[str, dict[str, Tensor]]:
    """Tell of the chosen images whether heatmaps beat the random orders, by control and interpreter."""
    together = {
        f"{control}/{interp}": maps[chosen] for control, found in controls.items() for interp, maps in found.items()
    }
    by_control: dict[str, dict[str, Tensor]] = {}
    for name, values in orders.judge(together).items():
        control, _, interp = name.partition("/")
        by_control.setdefault(control, {})[interp] = values.faithful
    return by_control


def _each(transform, maps: Float[Tensor, "n *two h w"], index: Int[Tensor, "n"]) -> Float[Tensor, "n *two h w"]:
    """Transform the heatmap of each image, or of each class of a composite."""
    if maps.dim() == 3:
        return transform(maps, index)
    return torch.stack([transform(each, index) for each in maps.unbind(dim=1)], dim=1)
