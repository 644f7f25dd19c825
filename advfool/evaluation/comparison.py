"""Measures the original against the manipulated network on the test images: one row for each image."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import Subset

from advfool.data.samples import Sample, Samples
from advfool.evaluation.deception import box_shares, deception_columns
from advfool.evaluation.faithfulness import faithfulness_columns, tested_on
from advfool.evaluation.loaders import LateLoaders
from advfool.evaluation.nulls import Nulls
from advfool.evaluation.paired import NETWORKS, record_pair
from advfool.evaluation.reach import reach_columns
from advfool.evaluation.rows import Table, gathered, one_column_each, prediction_columns, stacked, with_sources
from advfool.evaluation.setup import Settings, Setup, Split
from advfool.interpreters.base import Interpreter
from advfool.metrics import AOPC, METRICS
from advfool.metrics import functional as metrics
from advfool.utilities.heatmaps import is_finite


class Curve(NamedTuple):
    """An AOPC curve, the mean over the images.

    Args:
        value: the AOPC, the mean of the curve.
        interval: its 95 % interval over the images, by their sources; None where no two images are independent.
        points: mean fall of the probability after 0, 1, ... replaced regions.
    """

    value: float
    interval: list[float] | None
    points: list[float]


@dataclass
class Results:
    """What a comparison found.

    Args:
        explained: a row for each image whose heatmaps were measured; for active fooling, of each composite.
        images: a row for each test image.
        nulls: a row for each explained image, with the values of the controls.
        aopc: curves by (interpreter, network, whose heatmap); the interpreter of the heatmap `random` is "".
    """

    explained: Table
    images: Table
    nulls: Table = field(default_factory=dict)
    aopc: dict[tuple[str, str, str], Curve] = field(default_factory=dict)


def similarities() -> dict[str, Callable[..., Tensor]]:
    """List the registered metrics that compare two heatmaps of an image, by name."""
    return {name: metric.function for name, metric in METRICS.items() if metric.needs == ("pair of maps",)}


class Comparison(LightningModule):
    """Runs both networks over the test images and keeps one row for each image.

    Each network runs once for each batch, whatever the number of interpreters. The first loader has the images that
    are explained (composites, where there are any), a second one ordinary images.

    Args:
        setup: what is compared, and how.
        manipulated: the manipulated network.
        measured: indices of the images whose heatmaps are measured; None: all.
        curved: indices of the images whose AOPC curves are measured.
        tested: indices of the images on which it is measured whether heatmaps are faithful.
        nulls: judges the controls; None: there are none.
        split: whose images they are.
    """

    def __init__(
        self,
        setup: Setup,
        manipulated: nn.Module,
        measured: Int[Tensor, "m"] | None,
        curved: Int[Tensor, "k"],
        tested: Int[Tensor, "t"],
        nulls: Nulls | None = None,
        split: Split = "test",
    ) -> None:
        super().__init__()
        self.split: Split = split
        self.networks = nn.ModuleDict({"original": setup.original.eval(), "manipulated": manipulated.eval()})
        self.setup_of_run, self.measured, self.curved, self.tested = setup, measured, curved, tested
        self.interpreters, self.fooling = list(setup.interpreters.values()), setup.fooling
        self.has_boxes = setup.data.has_boxes or setup.composites is not None
        self.similarities = similarities()
        self.kinds: list[tuple[str, str, str]] = []  # of the curves
        self.curves: list[AOPC] = []
        if len(curved):
            self._add_curves()
        self.groups = setup.explained_in(split).groups() if len(curved) else None
        self.modules_of_curves = nn.ModuleList(self.curves)  # so that they follow to the device
        self.rows: tuple[list[Table], list[Table], list[Table]] = ([], [], [])
        self.nulls = nulls
        self.results: Results | None = None

    def _add_curves(self) -> None:
        aopc = self.setup_of_run.settings.aopc
        chosen = aopc.interpreters or [self.interpreters[0].name]
        sources = [(name, source) for name in self.setup_of_run.interpreters if name in chosen for source in NETWORKS]
        for network in NETWORKS:
            for interp, source in [*sources, ("", "random")]:
                self.kinds.append((interp, network, source))
                self.curves.append(
                    AOPC(
                        order="random" if source == "random" else "most_relevant_first",
                        steps=aopc.steps,
                        region=aopc.region,
                        replacement=aopc.replacement,
                        seed=aopc.seed,
                        pixel_range=self.setup_of_run.data.input.pixel_range(),
                    )
                )

    def test_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        if dataloader_idx == 1:
            self.rows[1].append(self._row(batch, explained=False))
            return
        measured = torch.ones_like(batch.index, dtype=torch.bool)
        if self.measured is not None:
            measured = torch.isin(batch.index, self.measured.to(batch.index.device))
        for part, explained in ((measured, True), (~measured, False)):
            if part.any():
                self.rows[0].append(self._row(Sample(*(values[part] for values in batch)), explained))

    def _row(self, batch: Sample, explained: bool) -> Table:
        networks = {name: self.networks[name] for name in NETWORKS}
        readers = self.interpreters if explained else []
        pair = record_pair(networks, batch.image, batch.label, readers, self.setup_of_run.settings.target)
        composites = batch.label.dim() == 2
        row: Table = {"index": batch.index}
        for name, found in pair.logits.items():
            row |= prediction_columns(name, found, None if composites else batch.label)
        row["agreement"] = metrics.prediction_agreement(*pair.logits.values()).float()
        row["kl"] = metrics.kl_divergence(*pair.logits.values())
        if not composites:
            row["label"] = batch.label
        if explained:
            maps = {interp.name: pair.maps(interp) for interp in self.interpreters}
            own = {interp: found["original"].detach() for interp, found in maps.items()}
            compared = {i.name: pair.compared(i, self.fooling, own[i.name]).float() for i in self.interpreters}
            for interp in self.interpreters:
                row |= self._map_columns(interp, maps[interp.name], compared[interp.name], batch)
            how = (self.tested, self.setup_of_run.settings.faithfulness, self.setup_of_run.data.input)
            tested = tested_on(networks, batch, pair.targets, maps, *how)
            row |= faithfulness_columns(tested, maps)
            row |= deception_columns(row, pair.targets, list(maps), self.fooling.interval, box_shares(batch))
            self._update_curves(batch, pair.targets, maps)
            if self.nulls is not None:
                own = {interp: found.float() for interp, found in own.items()}
                found = tested.get("original")
                self.rows[2].append(self.nulls.columns(networks["original"], batch, pair, own, compared, found))
        return {column: values.cpu() for column, values in row.items()}

    def _map_columns(
        self,
        interpreter: Interpreter,
        maps: Mapping[str, Float[Tensor, "n *two h w"]],
        compared: Float[Tensor, "n *_two h w"],
        batch: Sample,
    ) -> Table:
        interp = interpreter.name
        maps = {name: found.detach().float() for name, found in maps.items()}
        columns: Table = {}
        size = (batch.image.shape[-2], batch.image.shape[-1])
        for name, found in maps.items():
            test_loss = self.fooling.test_loss(found, compared)
            columns[f"test_loss/{interp}/{name}"] = test_loss
            columns[f"degenerate/{interp}/{name}"] = test_loss.isnan().float()
            if self.has_boxes:
                each = found.flatten(0, -3)  # of a composite both classes, one after the other
                boxes = batch.box.flatten(0, 1) if found.dim() == 4 else batch.box
                for key, measure in (("pointing", metrics.points_into), ("mass", metrics.mass_inside)):
                    columns[f"{key}/{interp}/{name}"] = measure(each, boxes, size).view(test_loss.shape)
        columns |= reach_columns(interp, self.fooling, maps)
        columns |= self._similarity_columns(interp, interpreter.signed, maps)
        return one_column_each(columns)

    def _similarity_columns(self, interp: str, signed: bool, maps: Mapping[str, Float[Tensor, "n *two h w"]]) -> Table:
        shape = maps["original"].shape[:-2]
        original, manipulated = (maps[name].flatten(0, -3) for name in NETWORKS)
        usable = is_finite(original) & is_finite(manipulated)
        columns: Table = {}
        for name, similarity in self.similarities.items():
            scaled = "data_range" in inspect.signature(similarity).parameters
            options = {"data_range": 2.0 if signed else 1.0} if scaled else {}
            values = similarity(original.nan_to_num(0, 0, 0), manipulated.nan_to_num(0, 0, 0), **options)
            columns[f"{name}/{interp}"] = values.float().where(usable, torch.nan).view(shape)
        return columns

    def _update_curves(
        self, batch: Sample, targets: Int[Tensor, "n *two"], maps: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        """Update with the images whose heatmaps are finite, so that all curves of an interpreter are of the same."""
        wanted = torch.isin(batch.index, self.curved.to(batch.index.device))
        for (interp, network, source), metric in zip(self.kinds, self.curves, strict=True):
            pair = maps[interp or self.interpreters[0].name]
            found = pair[source if interp else "original"]
            chosen = wanted & is_finite(pair["original"]) & is_finite(pair["manipulated"])
            if chosen.any():
                images, classes, index = (values[chosen] for values in (batch.image, targets, batch.index))
                clusters = None if self.groups is None else self.groups[index.cpu()]
                metric.update(self.networks[network], images, classes, found[chosen], index, clusters)

    def on_test_epoch_end(self) -> None:
        """Gather the rows of all processes, while the metrics are still on the device that these talk through."""
        explained, images, nulls = (gathered(stacked(rows)) for rows in self.rows)
        shown, ordinary = self.setup_of_run.explained_in(self.split), self.setup_of_run.images_in(self.split)
        explained, nulls, images = (
            with_sources(table, samples) for table, samples in ((explained, shown), (nulls, shown), (images, ordinary))
        )
        if self.setup_of_run.composites is None:
            images = explained
            if self.measured is not None:
                chosen = torch.isin(images["index"], self.measured)
                explained = {name: values[chosen] for name, values in images.items()}
        curves = {key: _curve(metric) for key, metric in zip(self.kinds, self.curves, strict=True)}
        self.results = Results(explained, images, nulls, {key: curve for key, curve in curves.items() if curve})


def compare_networks(setup: Setup, manipulated: nn.Module, trainer: Trainer, split: Split = "test") -> Results:
    """Measure both networks on all images of a split, and their heatmaps on a random part of them or on the composites.

    Args:
        setup: what is compared, and how.
        manipulated: the manipulated network.
        trainer: runs the comparison, in one or several processes.
        split: `test`, or `selection` for numbers that something is chosen by.
    """
    settings, images = setup.settings, setup.images_in(split)
    if setup.composites is not None:
        explained = setup.explained_in(split)
        tested = _drawn(len(explained), settings)[: settings.faithfulness.images].sort().values
        controls = _nulls(setup, len(tested), split)
        comparison = Comparison(setup, manipulated, None, torch.arange(0), tested, controls, split)
        parts: list[Samples | Subset] = [explained, images]
    else:
        total, limit = len(images), settings.fsr_images
        order = _drawn(total, settings)
        count = total if limit is None else min(limit, total)
        curved, tested = (min(images, count) for images in (settings.aopc.images, settings.faithfulness.images))
        measured = order[:count].sort().values if count < total else None
        first = [order[:some].sort().values for some in (curved, tested)]
        controls = _nulls(setup, tested, split)
        comparison = Comparison(setup, manipulated, measured, first[0], first[1], controls, split)
        # The images that most is measured on come first: batches are of one kind.
        cuts = [0, *sorted({curved, tested, count}), total]
        ranges = [order[start:end] for start, end in pairwise(cuts)]
        parts = [Subset(images, torch.cat([part.sort().values for part in ranges]).tolist())]
    trainer.test(comparison, datamodule=LateLoaders(setup.data, parts), verbose=False)
    assert comparison.results is not None
    return comparison.results


def _nulls(setup: Setup, tested: int, split: Split) -> Nulls | None:
    """Make what judges the controls, on the first of the tested images; nothing is chosen by them."""
    settings = setup.settings
    if split != "test" or not (settings.nulls.controls or setup.controls):
        return None
    return Nulls(setup, _drawn(len(setup.explained), settings)[: min(settings.nulls.images, tested)])


def _drawn(total: int, settings: Settings) -> Int[Tensor, "n"]:
    """Put the images in a random order, of which the first ones are measured."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(settings.seed))


def _curve(metric: AOPC) -> Curve | None:
    """Read a curve; None where no image had a heatmap."""
    (low, high), value, points = metric.interval().tolist(), metric.compute().item(), metric.curve().tolist()
    return Curve(value, [low, high] if low == low else None, points) if value == value else None
