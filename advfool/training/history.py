"""Logged values of a training, read back from its CSV files."""

import csv
from pathlib import Path

import numpy as np


def read_history(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(steps, values) of every quantity in metrics.csv, and in those that `keep_history` put aside."""
    kept = sorted(folder.glob("metrics.*.csv"), key=lambda path: int(path.suffixes[0][1:]))
    rows: dict[tuple, dict[str, str]] = {}
    for path in [*kept, folder / "metrics.csv"]:  # a training that goes on repeats a few steps
        for row in _rows(path):
            filled = {name: value for name, value in row.items() if value and name != "epoch"}
            rows[int(row["step"]), *filled] = filled
    names = dict.fromkeys(name for row in rows.values() for name in row if name != "step")
    history = {}
    for name in names:
        points = sorted((step, float(row[name])) for (step, *_), row in rows.items() if name in row)
        history[name] = tuple(np.array(column) for column in zip(*points, strict=True))
    return history


def keep_history(folder: Path) -> None:
    """Puts the values logged so far aside: Lightning's CSV logger begins its file anew when a training goes on."""
    path = folder / "metrics.csv"
    if path.exists():
        path.rename(folder / f"metrics.{len(list(folder.glob('metrics.*.csv')))}.csv")


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; a last one that was cut off while being written is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("step") and None not in row.values()]
