"""What the page shows of one run: its settings, numbers, files and folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advfool.reporting import wording
from advfool.reporting.rows import Row
from advfool.reporting.runs import CONFIGS, Run
from advfool.reporting.settings import finite
from advfool.training.history import read_history
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import CURVES, read_json
from advfool.utilities.plotting import History
from advfool.utilities.stored import LARGEST_CONFIG, stored_bytes
from advfool.utilities.text import printable


@dataclass(frozen=True)
class RunView:
    """A run as the page shows it.

    Args:
        run: the run.
        rows: its rows; the first one is for the interpreter trained with.
        anchor: its anchor on the page.
        address: of its folder, relative to the page.
        label: tells it from other runs of the same model, fooling and interpreter.
    """

    run: Run
    rows: tuple[Row, ...]
    anchor: str
    address: str
    label: str

    @property
    def row(self) -> Row:
        """The row for the interpreter trained with."""
        return self.rows[0]

    @property
    def title(self) -> str:
        """Model, fooling, interpreter and label."""
        row = self.row
        return f"{row['model']}, {wording.fooling(row['fooling'])}, {wording.interp(row['interp'])}, {self.label}"

    @property
    def config(self) -> str:
        """The configuration as text; for a run that failed before it wrote one, Hydra's own copy."""
        for name in CONFIGS:
            try:
                return printable(stored_bytes(self.run.folder, name, LARGEST_CONFIG).decode(errors="replace"))
            except AdvfoolError:
                continue
        return ""

    @property
    def environment(self) -> Mapping[str, Any]:
        """The content of environment.json; empty where the file is missing or damaged."""
        return self.run.environment if isinstance(self.run.environment, Mapping) else {}

    @property
    def versions(self) -> str:
        """The names and versions of the packages that the run used."""
        found = self.environment.get("versions")
        return ", ".join(f"{name} {v}" for name, v in found.items() if v) if isinstance(found, Mapping) else ""


def run_views(runs: Sequence[Run], rows: Sequence[Row], output: Path) -> list[RunView]:
    """Make a view of each run.

    Args:
        runs: in any order.
        rows: of these runs.
        output: the folder that the page will be written to.

    Returns:
        the views, sorted by model, fooling, interpreter and seed.
    """
    own: dict[str, list[Row]] = {}
    for row in rows:
        own.setdefault(row["run"], []).append(row)
    labels = [_label(own[run.name][0]) for run in runs]
    alike = [(*_facets(own[run.name][0]), label) for run, label in zip(runs, labels, strict=True)]
    views = [
        RunView(
            run,
            tuple(own[run.name]),
            f"run-{number}",
            wording.link(os.path.relpath(run.folder.resolve(), output.resolve())),
            label if alike.count(same) == 1 else f"{label}, {run.name}",
        )
        for number, (run, label, same) in enumerate(zip(runs, labels, alike, strict=True), start=1)
    ]
    return sorted(views, key=lambda view: (*_facets(view.row), view.row["seed"] or 0, view.run.name))


def history(run: Run) -> History:
    """Read the logged values of a run; empty where there are none or the file is damaged."""
    try:
        return read_history(run.folder)
    except (AdvfoolError, ValueError, TypeError, KeyError):
        return {}


def aopc_curves(run: Run) -> dict[str, list[float]]:
    """Read the AOPC curves of a run; empty where there are none or the file is damaged."""
    found = read_json(run.folder / CURVES) or {}
    return {
        printable(name): points
        for name, points in found.items()
        if isinstance(points, list) and points and all(finite(point) is not None for point in points)
    }


def _facets(row: Row) -> tuple:
    return row["model"], wording.rank(row["fooling"]), row["interp"]


def _label(row: Row) -> str:
    return f"seed {row['seed']}" if row["seed"] is not None else "no seed"
