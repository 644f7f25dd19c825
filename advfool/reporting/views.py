"""What the page shows of one run: its settings, numbers, files and where it lies."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advfool.reporting import wording
from advfool.reporting.rows import Row
from advfool.reporting.runs import Run
from advfool.training.history import read_history
from advfool.utilities.files import read_json


@dataclass(frozen=True)
class RunView:
    """A run and its rows (the first is of the interpreter trained with), with its anchor on the page.

    address: of its folder, relative to the page. label: what tells it from others of the same model, fooling and
    interpreter.
    """

    run: Run
    rows: tuple[Row, ...]
    anchor: str
    address: str
    label: str

    @property
    def row(self) -> Row:
        """The row of the interpreter trained with."""
        return self.rows[0]

    @property
    def title(self) -> str:
        """The run in words."""
        row = self.row
        return f"{row['model']}, {wording.fooling(row['fooling'])}, {wording.interp(row['interp'])}, {self.label}"

    @property
    def config(self) -> str:
        """config.yaml as it is; of a run that broke off before it was written, what Hydra kept."""
        for name in ("config.yaml", ".hydra/config.yaml"):
            try:
                return (self.run.folder / name).read_text(errors="replace")
            except OSError:
                continue
        return ""

    @property
    def environment(self) -> Mapping:
        """environment.json, empty where it is missing or no object."""
        return self.run.environment if isinstance(self.run.environment, Mapping) else {}

    @property
    def versions(self) -> str:
        """The packages that it ran with."""
        found = self.environment.get("versions")
        return ", ".join(f"{name} {v}" for name, v in found.items() if v) if isinstance(found, Mapping) else ""


def run_views(runs: Sequence[Run], rows: Sequence[Row], output: Path) -> list[RunView]:
    """A view of each run, by model, fooling, interpreter and seed; output: the folder the page will lie in."""
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


def history(run: Run) -> dict:
    """The logged values of a run, empty where there are none or the file is damaged."""
    try:
        return read_history(run.folder)
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def aopc_curves(run: Run) -> dict[str, list[float]]:
    """aopc.json, without what is no curve; empty where it is missing or was cut off."""
    found = read_json(run.folder / "aopc.json")
    if not isinstance(found, Mapping):
        return {}
    return {
        name: points
        for name, points in found.items()
        if isinstance(points, list) and points and all(isinstance(point, int | float) for point in points)
    }


def _facets(row: Row) -> tuple:
    return row["model"], wording.rank(row["fooling"]), row["interp"]


def _label(row: Row) -> str:
    return f"seed {row['seed']}" if row["seed"] is not None else "no seed"
