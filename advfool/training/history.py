"""Logged values of a training, read back from its CSV files."""

import csv
import io
from pathlib import Path

import numpy as np

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.stored import free_path, stored_bytes

LOGGED = "metrics.csv"  # Lightning's CSV logger writes it


def read_history(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read every logged quantity of a run, including what was logged before it was resumed.

    Args:
        folder: of the run.

    Returns:
        (steps, values) by the name of the quantity.
    """
    parts = [path for path in folder.glob("metrics.*.csv") if path.suffixes[0][1:].isdecimal()]
    earlier = sorted(parts, key=lambda path: int(path.suffixes[0][1:]))
    rows: dict[tuple, dict[str, float]] = {}
    for path in [*earlier, folder / LOGGED]:  # a resumed training repeats a few steps
        for row in _rows(path):
            filled = {name: value for name, text in row.items() if (value := _number(text)) is not None}
            if 0 <= (step := filled.pop("step", -1)) < 2**53:
                rows[int(step), *filled] = filled
    names = dict.fromkeys(name for row in rows.values() for name in row if name != "epoch")
    history = {}
    for name in names:
        points = sorted((step, row[name]) for (step, *_), row in rows.items() if name in row)
        steps, values = zip(*points, strict=True)
        history[name] = (np.array(steps), np.array(values))
    return history


def set_history_aside(folder: Path, source: Path) -> None:
    """Rename the file of the values logged so far: Lightning's CSV logger starts a new one when a run is resumed.

    Args:
        folder: of the run.
        source: of the interrupted run; where it is another one, its values are copied.
    """
    if source.resolve() != folder.resolve():
        for path in [*source.glob("metrics.*.csv"), source / LOGGED]:
            if path.is_file():
                free_path(folder, path.name).write_bytes(stored_bytes(source, path.name))
    path = folder / LOGGED
    if path.exists():
        parts = [path.suffixes[0][1:] for path in folder.glob("metrics.*.csv")]
        taken = [int(part) for part in parts if part.isdecimal() and len(part) < 9]
        path.rename(folder / f"metrics.{max(taken, default=-1) + 1}.csv")


def _number(text: object) -> float | None:
    """Read a number; None where there is none, or where the file was damaged."""
    try:
        return float(str(text))
    except ValueError:
        return None


def _rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file, without a last one that was cut off while it was written."""
    if not path.exists():
        return []
    lines = io.StringIO(stored_bytes(path.parent, path.name).decode(errors="replace"), newline="")
    try:
        return [row for row in csv.DictReader(lines) if row.get("step") and None not in (*row, *row.values())]
    except csv.Error as error:
        raise AdvfoolError(f"'{path}' is damaged: {error}.") from error
