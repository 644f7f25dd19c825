"""Tables with one row for each image: how they are made, put together and gathered from all processes."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed

from advfool.data.samples import Samples
from advfool.evaluation.paired import PAIR
from advfool.metrics import functional as metrics

Table = dict[str, Tensor]  # columns by name, one value for each image


def prediction_columns(name: str, logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"] | None) -> Table:
    """Make the columns of a network's predictions; without labels, none of its accuracy."""
    confidence, prediction = logits.float().softmax(dim=1).max(dim=1)
    columns = {f"prediction/{name}": prediction, f"confidence/{name}": confidence}
    if labels is not None:
        for k in (1, 5):
            columns[f"top{k}/{name}"] = metrics.top_k_correct(logits, labels, k).float()
    return columns


def one_column_each(columns: Table) -> Table:
    """Split columns of two values, one for each class of a composite, into `NAME/c1` and `NAME/c2`."""
    single = {name: values for name, values in columns.items() if values.dim() == 1}
    pairs = {
        f"{name}/{which}": values[:, c]
        for name, values in columns.items()
        if values.dim() == 2
        for c, which in enumerate(PAIR)
    }
    return single | pairs


def with_sources(table: Table, samples: Samples) -> Table:
    """Add the column `source`, or several: `source/1` and so on; images with an equal number are dependent."""
    if not table:
        return table
    groups = samples.groups()[table["index"]]
    if groups.dim() == 1:
        return table | {"source": groups}
    return table | {f"source/{place}": column for place, column in enumerate(groups.unbind(1), start=1)}


def clusters_of(table: Table) -> Int[Tensor, "n k"] | None:
    """Return the sources of each row; None where the table has no such columns."""
    columns = [values for name, values in table.items() if name.partition("/")[0] == "source"]
    return torch.stack(columns, dim=1) if columns else None


def stacked(rows: list[Table]) -> Table:
    """Concatenate batches; a column that a batch lacks (heatmaps that were not measured) is NaN there."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return {
        column: torch.cat(
            [row[column] if column in row else torch.full((len(row["index"]),), torch.nan) for row in rows]
        )
        for column in columns
    }


def gathered(table: Table) -> Table:
    """Gather the rows of all processes, in the order of their index."""
    if distributed.is_initialized() and distributed.get_world_size() > 1:  # also one without rows has to take part
        tables: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(tables, table)  # pyright: ignore[reportArgumentType] (its stub has one type for both)
        table = stacked([each for each in tables if each])
    order = torch.argsort(table["index"]) if table else None
    return {name: column[order] for name, column in table.items()}
