"""One row for each run and interpreter it is evaluated with: all numbers and their intervals, by flat names."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from advfool.evaluation.comparison import PAIR
from advfool.reporting.runs import Run
from advfool.utilities.files import value_at

Row = dict[str, object]
SETTINGS = {  # column: where the config has it
    "model": ("model", "name"),
    "fooling": ("fooling", "name"),
    "interp": ("interp", "name"),
    "seed": ("seed",),
    "fool_weight": ("fool_weight",),
    "lr": ("optimizer", "lr"),
    "max_steps": ("trainer", "max_steps"),
}
WORDS = ("model", "fooling", "interp")  # the settings that are no numbers
BETWEEN = (*SETTINGS, "interval", "evaluate_with")  # of metrics.json, given by the settings already


def result_rows(runs: Sequence[Run]) -> list[Row]:
    """The rows of all runs, those of one run together, the interpreter trained with first.

    A run that failed or has not finished has rows without numbers. Rates are fractions of 1; `NAME_low` and
    `NAME_high` are the 95 % interval of NAME. Of active fooling `NAME_c1` and `NAME_c2` are those of the two classes
    and NAME is the mean of both.
    """
    return [row for run in runs for row in _of_run(run)]


def matched(rows: Sequence[Row]) -> list[Row]:
    """The row of each run for the interpreter it was trained with."""
    return [row for row in rows if row["evaluated_with"] == row["interp"]]


def write_rows(folder: Path, rows: Sequence[Row]) -> None:
    """results.parquet and results.csv."""
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    pq.write_table(table, folder / "results.parquet")
    pa.csv.write_csv(table, folder / "results.csv")


def _of_run(run: Run) -> list[Row]:
    settings: Row = {"run": run.name, "state": run.state}
    for name, path in SETTINGS.items():
        value = value_at(run.config, path)
        settings[name] = (str(value) if value is not None else "unknown") if name in WORDS else _number(value)
    metrics = run.metrics if isinstance(run.metrics, Mapping) else {}
    planned = value_at(run.config, ("evaluate_with",))
    found = metrics.get("fsr") or (planned if isinstance(planned, Mapping) else {})
    interps = list(dict.fromkeys([settings["interp"], *found]))
    return [
        settings | {"evaluated_with": interp} | _of_interp(metrics, interp) | {"error": run.error} for interp in interps
    ]


def _of_interp(metrics: Mapping, interp: str) -> Row:
    """The numbers that are of this interpreter, and those of the run as a whole."""
    columns: Row = {}
    for key, value in metrics.items():
        if key not in BETWEEN and key != "ci95" and not key.endswith("_by_class"):
            columns |= _flat(key, value, metrics, interp)
            interval = (metrics.get("ci95") or {}).get(key)
            columns |= _flat(key, interval, metrics, interp)
    return columns | _means_of_pairs(columns)


def _means_of_pairs(columns: Row) -> Row:
    """Of every quantity of maps that is known for c1 and c2 (active fooling) the mean of both."""
    means: Row = {}
    for name in columns:
        base, end, both = name[:-3], name[-3:], [columns.get(f"{name[:-3]}_{which}") for which in PAIR]
        if end == f"_{PAIR[0]}" and not base.startswith("accuracy") and None not in both:
            means[base] = sum(both) / len(both)
    return means


def _flat(key: str, value: object, metrics: Mapping, interp: str) -> Row:
    """Every number below a key of metrics.json (or of its intervals), by its path joined with `_`."""
    interps = metrics.get("fsr") or {}
    inner = value.values() if isinstance(value, Mapping) else ()
    if inner and all(isinstance(part, Mapping) and not interps.keys().isdisjoint(part) for part in inner):
        return {
            name: n for word, part in value.items() for name, n in _flat(f"{key}_{word}", part, metrics, interp).items()
        }
    if isinstance(value, Mapping) and any(name in interps for name in value):
        own, order = value.get(interp), value.get("random")  # AOPC has a random order besides the interpreters
        parts = [part for part in (own, order) if part is not None]
        return {name: number for part in parts for name, number in _numbers(key, part)}
    return dict(_numbers(key, value))


def _numbers(name: str, value: object) -> Iterator[tuple[str, float | None]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}_{key}", inner)
    elif isinstance(value, list) and len(value) == 2:
        base = name.replace("accuracy_drop_ci95", "accuracy_drop_top1")
        yield from zip((f"{base}_low", f"{base}_high"), map(_number, value), strict=True)
    elif _number(value) is not None:
        yield name, value


def _number(value: object) -> float | int | None:
    """The value if it is a finite number; a config that was not resolved, or a damaged file, has texts in its place."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) else None
