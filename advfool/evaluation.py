"""Original against manipulated network on the test images: one row for each image, then the summary."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import Subset

from advfool.data.base import DataModule, Sample
from advfool.foolings.base import Fooling
from advfool.heatmaps import is_degenerate, mass_inside, points_into
from advfool.interpreters.base import Interpreter
from advfool.metrics.functional import fooling_success_rate, is_fooled, paired_interval, top_k_correct
from advfool.recording import record

NETWORKS = ("original", "manipulated")
Table = dict[str, Tensor]  # columns by name, one value for each image


class Comparison(LightningModule):
    """Runs both networks over the test images and keeps one row for each image in `table`.

    Each network runs once for each batch, whatever the number of interpreters. Rows are gathered from all
    processes and an image that a sampler repeated counts once. Heatmaps are measured on the images of the first
    loader; those of a second one have only their accuracy measured, and NaN in the heatmaps' columns.
    """

    def __init__(
        self,
        original: nn.Module,
        manipulated: nn.Module,
        interpreters: Sequence[Interpreter],
        fooling: Fooling,
        target: str,
        has_boxes: bool,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({"original": original.eval(), "manipulated": manipulated.eval()})
        self.interpreters, self.fooling, self.target, self.has_boxes = interpreters, fooling, target, has_boxes
        self.rows: list[Table] = []
        self.table: Table = {}

    def test_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        with_maps = dataloader_idx == 0
        row: Table = {"index": batch.index, "label": batch.label}
        readers = self.interpreters if with_maps else []
        recordings = {name: record(network, batch.image, readers) for name, network in self.networks.items()}
        for name, recording in recordings.items():
            row |= _prediction_columns(name, recording.logits.detach(), batch.label)
        targets = batch.label if self.target == "label" else row["prediction/original"]
        for interp in self.interpreters:
            if with_maps:
                maps = {name: interp.read(recording, targets) for name, recording in recordings.items()}
                row |= self._map_columns(interp.name, maps, batch)
        self.rows.append({column: values.cpu() for column, values in row.items()})

    def _map_columns(self, interp: str, maps: dict[str, Float[Tensor, "n h w"]], batch: Sample) -> Table:
        columns: Table = {}
        for name, heatmaps in maps.items():
            columns[f"test_loss/{interp}/{name}"] = self.fooling.test_loss(heatmaps, maps["original"]).float()
            columns[f"degenerate/{interp}/{name}"] = is_degenerate(heatmaps).float()
            if self.has_boxes:
                size = tuple(batch.image.shape[-2:])
                columns[f"pointing/{interp}/{name}"] = points_into(heatmaps, batch.box, size)
                columns[f"mass/{interp}/{name}"] = mass_inside(heatmaps, batch.box, size)
        return columns

    def on_test_epoch_end(self) -> None:
        table = _stack(self.rows)
        if self.trainer.world_size > 1:
            gathered = self.all_gather({name: column.to(self.device) for name, column in table.items()})
            table = {name: column.flatten(0, 1).cpu() for name, column in gathered.items()}
        self.table = _once_each(table)


def compare(
    trainer: Trainer,
    data: DataModule,
    original: nn.Module,
    manipulated: nn.Module,
    interpreters: Sequence[Interpreter],
    fooling: Fooling,
    target: str,
    measured: int | None,
    seed: int,
) -> Table:
    """Rows of all test images; heatmaps are measured on `measured` random ones (None: all)."""
    comparison = Comparison(original, manipulated, interpreters, fooling, target, data.has_boxes)
    images = data.test()
    parts = [images]
    if measured is not None and measured < len(images):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).tolist()
        parts = [Subset(images, sorted(order[:measured])), Subset(images, sorted(order[measured:]))]
    trainer.test(comparison, [data.in_order(part) for part in parts], verbose=False)
    return comparison.table


def summarise(table: Table, interpreters: Sequence[str], fooling: Fooling, classes: Sequence[str]) -> dict:
    """The contents of metrics.json that come from the images; rates are fractions of 1.

    `accuracy.drop.top1` is original less manipulated on the same images, with its paired 95 % interval.
    """
    drop, interval = paired_interval(*(table[f"top1/{name}"] for name in NETWORKS))
    accuracy = {name: {k: _mean(table[f"{k}/{name}"]) for k in ("top1", "top5")} for name in NETWORKS}
    accuracy["drop"] = {"top1": drop, "ci95": list(interval) if interval else None}
    result: dict = {"accuracy": accuracy, "n_images": len(table["index"])}
    measured = ~_unmeasured(table, interpreters)
    result["n_images_fsr"] = int(measured.sum())
    labels = table["label"][measured]
    for interp in interpreters:
        losses = {name: table[f"test_loss/{interp}/{name}"][measured] for name in NETWORKS}
        fooled = is_fooled(losses["manipulated"], fooling.interval)
        entries = {
            "fsr": fooling_success_rate(losses["manipulated"], fooling.interval).item(),
            "fsr_before": fooling_success_rate(losses["original"], fooling.interval).item(),
            "fsr_by_class": {classes[c]: _mean(fooled[labels == c]) for c in labels.unique().tolist()},
            "degenerate": _mean(table[f"degenerate/{interp}/manipulated"][measured]),
            "degenerate_before": _mean(table[f"degenerate/{interp}/original"][measured]),
            "test_loss": {name: _mean(loss) for name, loss in losses.items()},
        }
        if f"mass/{interp}/original" in table:
            entries["box"] = {
                name: {k: _mean(table[f"{k}/{interp}/{name}"][measured]) for k in ("pointing", "mass")}
                for name in NETWORKS
            }
        for key, value in entries.items():
            result.setdefault(key, {})[interp] = value
    return result


def _prediction_columns(name: str, logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"]) -> Table:
    confidence, prediction = logits.float().softmax(dim=1).max(dim=1)
    return {
        f"prediction/{name}": prediction,
        f"confidence/{name}": confidence,
        f"top1/{name}": top_k_correct(logits, labels, 1).float(),
        f"top5/{name}": top_k_correct(logits, labels, 5).float(),
    }


def _stack(rows: list[Table]) -> Table:
    """Concatenates batches; columns that a batch lacks (heatmaps not measured) are NaN there."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return {
        column: torch.cat(
            [row[column] if column in row else torch.full((len(row["index"]),), torch.nan) for row in rows]
        )
        for column in columns
    }


def _once_each(table: Table) -> Table:
    """Rows in the order of their index, each image once."""
    index = table["index"]
    order = torch.argsort(index, stable=True)
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = index[order][1:] != index[order][:-1]
    return {name: column[order[first]] for name, column in table.items()}


def _unmeasured(table: Table, interpreters: Sequence[str]) -> Tensor:
    return table[f"degenerate/{interpreters[0]}/original"].isnan()


def _mean(values: Tensor) -> float | None:
    """Mean over the values that are not NaN; None where there is none (JSON has no NaN)."""
    mean = values.double().nanmean().item()
    return None if mean != mean else mean
