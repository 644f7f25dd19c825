"""Original against manipulated network on the test images: one row for each image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, Subset

from advfool.data.base import DataModule
from advfool.data.samples import Sample, Samples
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics import AOPC
from advfool.metrics import functional as metrics
from advfool.metrics.functional.flipping import Replacement
from advfool.utilities.errors import AdvfoolError, check_choice
from advfool.utilities.heatmaps import is_finite

NETWORKS = ("original", "manipulated")
SIMILARITIES = {  # of the original and the manipulated network's map of the same image
    "spearman": metrics.spearman,
    "pearson": metrics.pearson,
    "cosine": metrics.cosine,
    "ssim": metrics.ssim,
    "topk_intersection": metrics.topk_intersection,
}
PAIR = ("c1", "c2")
Table = dict[str, Tensor]  # columns by name, one value for each image


@dataclass(frozen=True)
class AOPCSettings:
    """How AOPC curves are measured: on so many of the explained images (0: not at all), and `aopc`'s own settings.

    interpreters: whose maps, or None for the first one's (the trained one's).
    """

    images: int = 0
    steps: int = 100
    region: int = 9
    replacement: str = "uniform"
    seed: int = 0
    interpreters: Sequence[str] | None = None

    def check(self, size: int, names: Sequence[str]) -> None:
        """Raises an AdvfoolError where images of `size` pixels a side or interpreters of these names forbid it."""
        for key, least in (("images", 0), ("steps", 1), ("region", 1)):
            if getattr(self, key) < least:
                raise AdvfoolError(f"aopc.{key} must be at least {least}, got {getattr(self, key)}.")
        check_choice("aopc.replacement", self.replacement, Replacement)
        wrong = [name for name in self.interpreters or [] if name not in names]
        if wrong or isinstance(self.interpreters, str):
            raise AdvfoolError(
                f"aopc.interpreters must be a list of those evaluated with ({', '.join(names)}), got "
                f"{self.interpreters}."
            )
        cells = (size // self.region) ** 2
        if self.images and self.steps > cells:
            raise AdvfoolError(
                f"aopc.steps={self.steps}: an image of {size}x{size} has {cells} regions of {self.region}x"
                f"{self.region}. Use fewer steps or smaller regions (aopc.region=...)."
            )


class Curve(NamedTuple):
    """An AOPC curve, the mean over the images, with its value and that one's 95 % interval."""

    value: float
    interval: list[float] | None
    points: list[float]


@dataclass
class Results:
    """What a comparison found: rows of the explained images, of all images, and AOPC curves by what they are of.

    Passive foolings explain test images, active ones composites, whose rows are apart from those of the images.
    `aopc` has a curve for (interpreter, network, whose map), if any image had finite maps; the interpreter of the map
    `random` is "".
    """

    explained: Table
    images: Table
    aopc: dict[tuple[str, str, str], Curve] = field(default_factory=dict)


class Comparison(LightningModule):
    """Runs both networks over the test images and keeps one row for each image.

    Each network runs once for each batch, whatever the number of interpreters. Heatmaps are measured on the images
    whose index is in `measured` (None: all); for composites (the second kind of batch is then the ordinary images)
    on all of them.
    """

    def __init__(
        self,
        original: nn.Module,
        manipulated: nn.Module,
        interpreters: Sequence[Interpreter],
        fooling: Fooling,
        target: str,
        data: DataModule,
        measured: Int[Tensor, "m"] | None,
        aopc: AOPCSettings,
        aopc_images: Int[Tensor, "k"],
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({"original": original.eval(), "manipulated": manipulated.eval()})
        self.interpreters, self.fooling, self.target = interpreters, fooling, target
        self.has_boxes = data.has_boxes or fooling.needs_composites
        self.measured, self.aopc_images = measured, aopc_images
        chosen = aopc.interpreters or [interpreters[0].name]
        self.kinds: list[tuple[str, str, str]] = []  # of the curves
        self.curves = nn.ModuleList()
        if len(aopc_images):
            kinds = [(interp.name, name) for interp in interpreters if interp.name in chosen for name in NETWORKS]
            options = {"steps": aopc.steps, "region": aopc.region, "replacement": aopc.replacement, "seed": aopc.seed}
            options["pixel_range"] = data.input.pixel_range()
            for network in NETWORKS:
                for interp, source in [*kinds, ("", "random")]:
                    order = "random" if source == "random" else "most_relevant_first"
                    self.kinds.append((interp, network, source))
                    self.curves.append(AOPC(order=order, **options))
        self.rows: tuple[list[Table], list[Table]] = ([], [])
        self.results: Results | None = None

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
        readers = self.interpreters if explained else []
        recordings = {name: record(network, batch.image, readers) for name, network in self.networks.items()}
        logits = {name: recording.logits.detach() for name, recording in recordings.items()}
        composites = batch.label.dim() == 2
        row: Table = {"index": batch.index}
        for name, found in logits.items():
            row |= _prediction_columns(name, found, None if composites else batch.label)
        row["agreement"] = metrics.prediction_agreement(*logits.values()).float()
        row["kl"] = metrics.kl_divergence(*logits.values())
        if not composites:
            row["label"] = batch.label
        targets = batch.label if self.target == "label" or composites else row["prediction/original"]
        if explained:
            maps = {
                interp.name: {name: read_maps(interp, recording, targets) for name, recording in recordings.items()}
                for interp in self.interpreters
            }
            for interp in self.interpreters:
                row |= self._map_columns(interp.name, interp.signed, maps[interp.name], batch)
            self._update_curves(batch, targets, maps)
        return {column: values.cpu() for column, values in row.items()}

    def _map_columns(
        self, interp: str, signed: bool, maps: dict[str, Float[Tensor, "n *two h w"]], batch: Sample
    ) -> Table:
        maps = {name: found.detach().float() for name, found in maps.items()}
        columns: Table = {}
        size = tuple(batch.image.shape[-2:])
        for name, found in maps.items():
            test_loss = self.fooling.test_loss(found, maps["original"])
            columns[f"test_loss/{interp}/{name}"] = test_loss
            columns[f"degenerate/{interp}/{name}"] = test_loss.isnan().float()
            if self.has_boxes:
                boxes = batch.box.flatten(0, found.dim() - 3) if found.dim() == 4 else batch.box
                flat = found.flatten(0, -3)
                columns[f"pointing/{interp}/{name}"] = metrics.points_into(flat, boxes, size).view(found.shape[:-2])
                columns[f"mass/{interp}/{name}"] = metrics.mass_inside(flat, boxes, size).view(found.shape[:-2])
        original, manipulated = (maps[name].flatten(0, -3) for name in NETWORKS)
        usable = is_finite(original) & is_finite(manipulated)
        for name, similarity in SIMILARITIES.items():
            options = {"data_range": 2.0 if signed else 1.0} if name == "ssim" else {}
            values = similarity(original.nan_to_num(0, 0, 0), manipulated.nan_to_num(0, 0, 0), **options)
            columns[f"{name}/{interp}"] = values.float().where(usable, torch.nan).view(found.shape[:-2])
        return _one_column_each(columns)

    def _update_curves(self, batch: Sample, targets: Tensor, maps: dict[str, dict[str, Tensor]]) -> None:
        """Of images with finite maps, so that all curves of an interpreter are of the same images."""
        wanted = torch.isin(batch.index, self.aopc_images.to(batch.index.device))
        for (interp, network, source), metric in zip(self.kinds, self.curves, strict=True):
            pair = maps[interp or self.interpreters[0].name]
            found = pair[source if interp else "original"]
            chosen = wanted & is_finite(pair["original"]) & is_finite(pair["manipulated"])
            if chosen.any():
                arguments = (values[chosen] for values in (batch.image, targets, found))
                metric.update(self.networks[network], *arguments, batch.index[chosen])

    def on_test_epoch_end(self) -> None:
        """Gathers from all processes, while metrics are still on the device that these talk through."""
        explained, images = (_gathered(_stack(rows)) for rows in self.rows)
        if not self.fooling.needs_composites:
            images = explained
            if self.measured is not None:
                explained = {
                    name: values[torch.isin(images["index"], self.measured)] for name, values in images.items()
                }
        curves = {key: _curve(metric) for key, metric in zip(self.kinds, self.curves, strict=True)}
        self.results = Results(explained, images, {key: curve for key, curve in curves.items() if curve})


def compare(
    trainer: Trainer,
    data: DataModule,
    original: nn.Module,
    manipulated: nn.Module,
    interpreters: Sequence[Interpreter],
    fooling: Fooling,
    target: str,
    measured: int | None = None,
    seed: int = 0,
    composites: Samples | None = None,
    aopc: AOPCSettings | None = None,
) -> Results:
    """Both networks on all test images; heatmaps on `measured` random ones (None: all), or on the composites."""
    images, aopc = data.test(), aopc or AOPCSettings()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    some = measured is not None and measured < len(images) and composites is None
    chosen = order[:measured].sort().values if some else None
    aopc_images = order[: min(aopc.images, measured or len(images))] if composites is None else order[:0]
    comparison = Comparison(
        original, manipulated, interpreters, fooling, target, data, chosen, aopc, aopc_images.sort().values
    )
    if composites is None:  # images with AOPC first, then the other measured ones: batches are of one kind
        curved, rest = len(aopc_images), measured if some else len(images)
        parts = (order[:curved], order[curved:rest], order[rest:])
        images = Subset(images, torch.cat([part.sort().values for part in parts]).tolist())
    parts = [images] if composites is None else [composites, images]
    trainer.test(comparison, datamodule=_TestLoaders(data, parts), verbose=False)
    return comparison.results


class _TestLoaders(LightningDataModule):
    """Loaders that are made once the processes know of each other."""

    def __init__(self, data: DataModule, parts: list) -> None:
        super().__init__()
        self.data, self.parts = data, parts

    def test_dataloader(self) -> list[DataLoader]:
        return [self.data.in_order(part) for part in self.parts]


def _prediction_columns(name: str, logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"] | None) -> Table:
    confidence, prediction = logits.float().softmax(dim=1).max(dim=1)
    columns = {f"prediction/{name}": prediction, f"confidence/{name}": confidence}
    if labels is not None:
        for k in (1, 5):
            columns[f"top{k}/{name}"] = metrics.top_k_correct(logits, labels, k).float()
    return columns


def _one_column_each(columns: Table) -> Table:
    """Columns of two values, one for each class of a composite, become two columns: `NAME/c1` and `NAME/c2`."""
    single = {name: values for name, values in columns.items() if values.dim() == 1}
    pairs = {
        f"{name}/{which}": values[:, c]
        for name, values in columns.items()
        if values.dim() == 2
        for c, which in enumerate(PAIR)
    }
    return single | pairs


def _curve(metric: AOPC) -> Curve | None:
    """None where no image had a map."""
    (low, high), value, points = metric.interval().tolist(), metric.compute().item(), metric.curve().tolist()
    return Curve(value, [low, high] if low == low else None, points) if value == value else None


def _stack(rows: list[Table]) -> Table:
    """Concatenates batches; columns that a batch lacks (heatmaps not measured) are NaN there."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return {
        column: torch.cat(
            [row[column] if column in row else torch.full((len(row["index"]),), torch.nan) for row in rows]
        )
        for column in columns
    }


def _gathered(table: Table) -> Table:
    """The rows of all processes in the order of their index."""
    if table and distributed.is_initialized() and distributed.get_world_size() > 1:
        tables = [None] * distributed.get_world_size()
        distributed.all_gather_object(tables, table)
        table = _stack(tables)
    order = torch.argsort(table["index"]) if table else None
    return {name: column[order] for name, column in table.items()}
