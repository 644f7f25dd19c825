"""One row for each run and interpreter it is evaluated with: all numbers and their intervals, by flat names."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv
from pyarrow import parquet as pq

from advfool.evaluation.paired import PAIR
from advfool.evaluation.setup import JOINT
from advfool.reporting.runs import Run, attacked_names
from advfool.reporting.settings import Setting, finite
from advfool.utilities.files import value_at
from advfool.utilities.stored import free_path
from advfool.utilities.text import cell

Row = dict[str, Any]  # texts, numbers and None by the name of the column
NAMES = ("model", "fooling", "interp")
SETTINGS = (*NAMES, "seed", *Setting._fields)
WHOLE = ("accuracy", "n_", "gate")  # columns of two classes whose mean says nothing
OWN_INTERVALS = {"accuracy_drop_ci95": "accuracy_drop_top1", "gate_ci95": "gate_pointing_both"}  # beside their numbers
SKIPPED = (
    *SETTINGS,
    "interval",
    "evaluate_with",
    "interpreters",
    "ci95",
    "fsr_null_control",
)  # without columns of numbers


def result_rows(runs: Sequence[Run]) -> list[Row]:
    """Make the rows of all runs.

    Rates are fractions of 1; `NAME_low` and `NAME_high` are the 95 % interval of NAME. For active fooling `NAME_c1` and
    `NAME_c2` are those of the two classes and NAME is the mean of both.

    Args:
        runs: in any state; a run that failed or has not finished has rows without numbers.

    Returns:
        the rows in the order of the runs; those of one run begin with the interpreter trained with.
    """
    return [row for run in runs for row in _rows_of(run)]


def matched(rows: Sequence[Row]) -> list[Row]:
    """Choose the row of each run for the interpreter it was trained with, or the rows for several of them."""
    return [row for row in rows if is_matched(row)]


def is_matched(row: Row) -> bool:
    """Tell whether a row's interpreter is one that its network was trained to fool."""
    return row["evaluated_with"] in (row["interp"], *row["interp"].split(JOINT))


def write_rows(folder: Path, rows: Sequence[Row]) -> None:
    """Write results.parquet and results.csv, the same table in two formats."""
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    pq.write_table(table, free_path(folder, "results.parquet"))
    csv.write_csv(_without_formulas(table), free_path(folder, "results.csv"))


def _without_formulas(table: pa.Table) -> pa.Table:
    """Copy a table without texts that a spreadsheet would compute; numbers stay as they are."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        texts = pa.types.is_string(column.type)
        columns[cell(name)] = [value and cell(value) for value in column.to_pylist()] if texts else column
    return pa.table(columns)


def _rows_of(run: Run) -> list[Row]:
    settings: Row = {"run": run.name, "state": run.state}
    for name in NAMES:
        value = value_at(run.config, (name, "name"))
        settings[name] = str(value) if value is not None else "unknown"
    attacked = attacked_names(run.config)
    settings["interp"] = JOINT.join(attacked)
    settings |= {"seed": finite(run.config.get("seed"))} | run.setting._asdict()
    metrics = run.metrics if isinstance(run.metrics, Mapping) else {}
    planned = run.config.get("interpreters")  # of a run that has not finished
    found = metrics.get("fsr") or (planned if isinstance(planned, Mapping) else {})
    interps = list(dict.fromkeys([*attacked, *found]))
    return [
        settings | {"evaluated_with": interp} | columns_of(metrics, interp) | {"error": run.error} for interp in interps
    ]


def columns_of(metrics: Mapping[str, Any], interp: str) -> Row:
    """Flatten the content of a metrics.json for one interpreter.

    Args:
        metrics: the content.
        interp: the interpreter evaluated with.

    Returns:
        the numbers of this interpreter, and those of the run as a whole, by the name of the column; and as a text the
        control that `fsr_null` is the success rate of.
    """
    interps = metrics.get("fsr") or {}
    columns: Row = {}
    for key, value in metrics.items():
        if key not in SKIPPED and not key.endswith("_by_class"):
            columns |= _flat(key, value, interps, interp)
            columns |= _flat(key, (metrics.get("ci95") or {}).get(key), interps, interp)
    accuracy = metrics.get("accuracy")
    verdict = accuracy.get("verdict") if isinstance(accuracy, Mapping) else None
    said: Row = {"accuracy_verdict": verdict} if isinstance(verdict, str) else {}
    return columns | said | _means_of_pairs(columns) | _control(metrics, interp)


def _control(metrics: Mapping[str, Any], interp: str) -> Row:
    """Name the control with the highest success rate; of active fooling that of each class, where they differ."""
    names = metrics.get("fsr_null_control")
    own = names.get(interp) if isinstance(names, Mapping) else None
    found = list(own.values()) if isinstance(own, Mapping) else [own]
    texts = [name for name in found if isinstance(name, str)]
    return {"fsr_null_control": ", ".join(dict.fromkeys(texts))} if texts else {}


def _means_of_pairs(columns: Row) -> Row:
    """Average every quantity of heatmaps that is known for both classes of an active fooling; counts stay apart."""
    means: Row = {}
    first, second = (f"_{which}" for which in PAIR)
    for name, value in columns.items():
        base = name.removesuffix(first)
        other = columns.get(f"{base}{second}")
        if name.endswith(first) and not base.startswith(WHOLE) and value is not None and other is not None:
            means[base] = (value + other) / 2
    return means


def _flat(key: str, value: object, interps: Mapping[str, Any], interp: str) -> Row:
    """Name every number below a key of metrics.json (or of its intervals) by its path, joined with `_`.

    Names of interpreters are left out of the path: at each place that has them the one evaluated with is chosen.
    """
    if not isinstance(value, Mapping):
        return dict(_numbers(key, value))
    if any(name in interps for name in value):
        parts = (value.get(interp), value.get("random"))  # AOPC has a random order besides the interpreters
        return {name: number for part in parts if part is not None for name, number in _numbers(key, part)}
    return {
        name: n for word, part in value.items() for name, n in _flat(f"{key}_{word}", part, interps, interp).items()
    }


def _numbers(name: str, value: object) -> Iterator[tuple[str, float | None]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}_{key}", inner)
    elif isinstance(value, list) and len(value) == 2:
        base = OWN_INTERVALS.get(name, name)
        yield from zip((f"{base}_low", f"{base}_high"), map(finite, value), strict=True)
    elif (number := finite(value)) is not None:
        yield name, number
