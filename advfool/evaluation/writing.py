"""The files that an evaluation leaves in a run's folder."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from advfool.evaluation.comparison import Results
from advfool.evaluation.examples import write_examples
from advfool.evaluation.pictures import aopc_picture, heatmaps_picture
from advfool.evaluation.rows import Table
from advfool.evaluation.setup import Setup
from advfool.utilities.files import CURVES, METRICS, PER_IMAGE, write_json


def write_results(folder: Path, setup: Setup, manipulated: nn.Module, results: Results, metrics: dict) -> None:
    """Write per_image.parquet, the examples, the pictures and, last of all, metrics.json.

    Args:
        folder: of the run.
        setup: what was compared, and how. Its original network is moved to the CPU.
        manipulated: the manipulated network; it is moved to the CPU.
        results: the rows and curves.
        metrics: the contents of metrics.json.
    """
    setup.original.cpu()
    manipulated.cpu()
    _write_images(folder / PER_IMAGE, setup, results)
    write_examples(folder, setup, manipulated, results.explained)
    if setup.settings.pictures:
        _draw(folder / "heatmaps.png", setup, manipulated)
    if results.aopc:
        points = {key: curve.points for key, curve in results.aopc.items()}
        aopc_picture(folder / "aopc.png", points)
        write_json(folder / CURVES, {"/".join(filter(None, key)): curve for key, curve in points.items()})
    write_json(folder / METRICS, metrics)


def _write_images(path: Path, setup: Setup, results: Results) -> None:
    """Write one row for each image: its kind, index, file, class, predictions, and each interpreter's values."""
    tables = [_named(results.images, "image", setup)]
    if setup.composites:
        tables = [_named(results.explained, "composite", setup), *tables]
    pq.write_table(pa.concat_tables(tables, promote_options="default"), path)


def _named(table: Table, kind: str, setup: Setup) -> pa.Table:
    index = table["index"].tolist()
    images, classes = setup.data.test(), setup.data.classes
    columns: dict = {"kind": [kind] * len(index), "index": index}
    columns["path"] = pa.array([images.path(i) if kind == "image" else None for i in index], pa.string())
    labels = table["label"].tolist() if "label" in table else [None] * len(index)
    columns["label"] = pa.array(labels, pa.int64())
    columns["class"] = pa.array([None if c is None else classes[c] for c in labels], pa.string())
    return pa.table(columns | {name: c.numpy() for name, c in table.items() if name not in ("index", "label")})


def _draw(path: Path, setup: Setup, manipulated: nn.Module) -> None:
    images, settings = setup.explained, setup.settings
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(settings.seed))
    samples = [images[index] for index in order[: settings.pictures].tolist()]
    networks = {"original": setup.original, "manipulated": manipulated}
    heatmaps_picture(path, samples, networks, setup.trained, setup.data.input, setup.data.labels, settings.target)
