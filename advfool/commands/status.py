"""`status.json` of a run in a sweep: its outcome, and the settings that its folder belongs to."""

import os
import time
from pathlib import Path

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import STATUS, read_json, write_json

SWEEP = "ADVFOOL_SWEEP"  # environment variable: the sweep that is running, known to its workers, too
PATIENCE = 1800  # seconds that further processes wait for the first one's decision


def _slurm_job() -> str | None:
    """Name this start of this Slurm job (a job that is requeued keeps its number); None outside Slurm."""
    job = os.environ.get("SLURM_JOB_ID")
    return job and f"{job}.{os.environ.get('SLURM_RESTART_COUNT', 0)}.{os.environ.get('SLURM_STEP_ID', 0)}"


class Status:
    """`status.json` of a run in a sweep: its outcome in the latest sweep, its error, and what the folder holds.

    `holds` is the outcome of the run that is there, `settings` are its settings; a refused sweep changes neither.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATUS
        self.before = read_json(self.path) or {}

    def check(self, settings: dict, finished: bool) -> bool:
        """Tell whether the settings are those of the run in the folder; a failed run may be repeated with others.

        Args:
            settings: of the run that is asked for, by dotted path.
            finished: whether the folder holds a finished run.

        Raises:
            AdvfoolError: the folder holds a run with other settings, finished or interrupted.
        """
        changed = _differences(self.before["settings"], settings) if self.before.get("settings") else []
        if changed and (finished or self.before.get("holds", self.before["outcome"]) != "failed"):
            raise AdvfoolError(
                f"'{self.path.parent}' holds a run with other settings: {'; '.join(changed[:5])}. "
                "Give the sweep another folder (hydra.sweep.dir=...), or remove that one."
            )
        return not changed

    def of_this_job(self) -> dict:
        """Wait for the first of the Slurm job's processes, and read what it has written."""
        for _ in range(int(PATIENCE / 0.5)):
            found = read_json(self.path) or {}
            if found.get("job") == _slurm_job():
                return found
            time.sleep(0.5)
        raise AdvfoolError(f"The first process of this Slurm job has not started the run '{self.path.parent}' in time.")

    def write(self, outcome: str, settings: dict, seconds: float | None = None, resume: str | None = None) -> None:
        """Write the outcome of the run that is in the folder now."""
        if outcome == "skipped":
            seconds = self.before.get("seconds")
        self._write(outcome, None, {"holds": outcome, "settings": settings, "seconds": seconds}, resume)

    def fail(self, error: str, settings: dict | None) -> None:
        """Write that the run failed; settings are None where none was started."""
        held = {key: self.before.get(key) for key in ("settings", "seconds")}
        held["holds"] = self.before.get("holds", self.before.get("outcome"))
        failed = {"holds": "failed", "settings": settings, "seconds": None}
        self._write("failed", error, held if settings is None else failed)

    def _write(self, outcome: str, error: str | None, held: dict, resume: str | None = None) -> None:
        told = {"outcome": outcome, "error": error, "sweep": os.environ.get(SWEEP)}
        write_json(self.path, told | {"resume": resume, "job": _slurm_job()} | held)


def _differences(known: dict, new: dict) -> list[str]:
    """List `key old -> new` for each value that is not the same."""
    keys = dict.fromkeys([*known, *new])
    return [f"{key} {known.get(key)} -> {new.get(key)}" for key in keys if known.get(key) != new.get(key)]
