"""Logged values of a training, read back from its CSV files."""

import csv
from pathlib import Path

import numpy as np

LOGGED = "metrics.csv"  # Lightning's CSV logger writes it


def read_history(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read every logged quantity of a run, including what was logged before it was resumed.

    Args:
        folder: of the run.

    Returns:
        (steps, values) by the name of the quantity.
    """
    earlier = sorted(folder.glob("metrics.*.csv"), key=lambda path: int(path.suffixes[0][1:]))
    rows: dict[tuple, dict[str, str]] = {}
    for path in [*earlier, folder / LOGGED]:  # a resumed training repeats a few steps
        for row in _rows(path):
            filled = {name: value for name, value in row.items() if value and name != "epoch"}
            rows[int(row["step"]), *filled] = filled
    names = dict.fromkeys(name for row in rows.values() for name in row if name != "step")
    history = {}
    for name in names:
        points = sorted((step, float(row[name])) for (step, *_), row in rows.items() if name in row)
        steps, values = zip(*points, strict=True)
        history[name] = (np.array(steps), np.array(values))
    return history


def set_history_aside(folder: Path) -> None:
    """Rename the file of the values logged so far: Lightning's CSV logger starts a new one when a run is resumed."""
    path = folder / LOGGED
    if path.exists():
        path.rename(folder / f"metrics.{len(list(folder.glob('metrics.*.csv')))}.csv")


def _rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file, without a last one that was cut off while it was written."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("step") and None not in row.values()]
