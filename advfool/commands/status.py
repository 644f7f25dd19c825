"""`status.json` of a run in a sweep."""

import json
import os
import time
from pathlib import Path

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import STATUS, write_json

SWEEP = "ADVFOOL_SWEEP"  # environment variable: the sweep that is running, known to its workers, too
PATIENCE = 1800  # seconds that further processes wait for the first one's decision


def _slurm_job() -> str | None:
    """Which start of which job this is: a job that is requeued keeps its number."""
    job = os.environ.get("SLURM_JOB_ID")
    return job and f"{job}.{os.environ.get('SLURM_RESTART_COUNT', 0)}.{os.environ.get('SLURM_STEP_ID', 0)}"


class Status:
    """`status.json` of a cell: its outcome in the sweep that ran last, its error, and what the folder holds.

    `holds` is the outcome of the run that is there, `settings` are its settings; a refused sweep changes neither.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATUS
        self.before = json.loads(self.path.read_text()) if self.path.is_file() else {}

    def check(self, settings: dict, finished: bool) -> bool:
        """Whether the settings are those that the folder was begun with; one that failed may be begun with others.

        Raises:
            AdvfoolError: the folder holds a run with other settings, finished or broken off.
        """
        changed = _differences(self.before["settings"], settings) if self.before.get("settings") else []
        if changed and (finished or self.before.get("holds", self.before["outcome"]) != "failed"):
            raise AdvfoolError(
                f"'{self.path.parent}' holds a run with other settings: {'; '.join(changed[:5])}. "
                "Give the sweep another folder (hydra.sweep.dir=...), or remove that one."
            )
        return not changed

    def of_this_job(self) -> dict:
        """What the first of the Slurm job's processes has written; waits for it."""
        for _ in range(int(PATIENCE / 0.5)):
            found = json.loads(self.path.read_text()) if self.path.is_file() else {}
            if found.get("job") == _slurm_job():
                return found
            time.sleep(0.5)
        raise AdvfoolError(f"The first process of this Slurm job has not begun the cell '{self.path.parent}' in time.")

    def write(self, outcome: str, settings: dict, seconds: float | None = None, resume: str | None = None) -> None:
        """What became of the cell, whose run is in the folder now."""
        if outcome == "skipped":
            seconds = self.before.get("seconds")
        self._write(outcome, None, {"holds": outcome, "settings": settings, "seconds": seconds}, resume)

    def fail(self, error: str, settings: dict | None) -> None:
        """settings: those of the run that failed; None where none was begun."""
        held = {key: self.before.get(key) for key in ("settings", "seconds")}
        held["holds"] = self.before.get("holds", self.before.get("outcome"))
        failed = {"holds": "failed", "settings": settings, "seconds": None}
        self._write("failed", error, held if settings is None else failed)

    def _write(self, outcome: str, error: str | None, held: dict, resume: str | None = None) -> None:
        told = {"outcome": outcome, "error": error, "sweep": os.environ.get(SWEEP)}
        write_json(self.path, told | {"resume": resume, "job": _slurm_job()} | held)


def _differences(known: dict, new: dict) -> list[str]:
    """`key old -> new` for each value that is not the same; parts that earlier versions did not keep are let pass."""
    kept = [key for key in new if key in known and key not in NO_SETTINGS]
    a, b = (_flat({key: tree[key] for key in kept}) for tree in (known, new))
    return [f"{key} {a.get(key)} -> {b.get(key)}" for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]


def _flat(tree: object, path: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {path: tree}
    return {key: leaf for name, node in tree.items() for key, leaf in _flat(node, f"{path}.{name}".strip(".")).items()}
