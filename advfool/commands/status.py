"""`status.json` of a run: its outcome, and the settings that its folder belongs to."""

import os
import time
from pathlib import Path

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import STATUS, read_json, write_json
from advfool.utilities.text import shortened

SWEEP = "ADVFOOL_SWEEP"  # environment variable: the sweep that is running, known to its workers, too
OUTCOMES = {"finished": "finished", "skipped": "finished before", "failed": "failed", "running": "interrupted"}
# Settings that say on how many devices a run is done: one may be resumed on others, with other last digits.
HOW_FAST = ("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
PATIENCE = 1800  # seconds that further processes wait for the first one's decision


def _job() -> str | None:
    """Name this start of the job whose processes Slurm or torchrun started; None without them.

    A Slurm job that is requeued keeps its number.
    """
    if job := os.environ.get("SLURM_JOB_ID"):
        return f"{job}.{os.environ.get('SLURM_RESTART_COUNT', 0)}.{os.environ.get('SLURM_STEP_ID', 0)}"
    keys = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    return ".".join(os.environ.get(key, "") for key in keys) if keys[0] in os.environ else None


class Status:
    """`status.json` of a run: its outcome in the latest command, its error, and what the folder holds.

    `holds` is the outcome of the run that is there, `settings` are its settings; a refused command changes neither. A
    damaged file counts as none.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATUS
        self.before = read_status(folder) or {}

    def changed(self, settings: dict) -> list[str]:
        """List in which settings the run in the folder differs, where that is known."""
        return differences(self.before.get("settings") or settings, settings)

    @property
    def failed(self) -> bool:
        """Whether the run in the folder ended with an error, so that it may be repeated with other settings."""
        return self.before.get("holds", self.before.get("outcome")) == "failed"

    def of_this_job(self) -> dict:
        """Wait for the first of the job's processes, and read what it has written."""
        for _ in range(int(PATIENCE / 0.5)):
            found = read_status(self.path.parent) or {}
            if found.get("job") == _job():
                return found
            time.sleep(0.5)
        raise AdvfoolError(f"The first process of this job has not started the run '{self.path.parent}' in time.")

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
        write_json(self.path, told | {"resume": resume, "job": _job()} | held)


def read_status(folder: Path) -> dict | None:
    """Read `status.json`; None where it is missing, damaged or something else: a value of another kind included."""
    found = read_json(folder / STATUS)
    if found is None or not all(fits(found.get(key)) for key, fits in _KINDS.items()):
        return None
    return found


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_outcome(value: object) -> bool:
    return isinstance(value, str) and value in OUTCOMES


def _is_duration(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0)


_KINDS = {
    "outcome": _is_outcome,
    "holds": lambda value: value is None or _is_outcome(value),
    "settings": lambda value: value is None or isinstance(value, dict),
    "seconds": _is_duration,
    **dict.fromkeys(("error", "sweep", "resume", "job"), _is_text),
}


def differences(known: dict, new: dict) -> list[str]:
    """List `key old -> new` for each value that is not the same and decides the results.

    Args:
        known: the settings of the run that is there, by dotted path.
        new: those of the run that is asked for.
    """
    keys = [key for key in dict.fromkeys([*known, *new]) if key not in HOW_FAST]
    changed = [key for key in keys if known.get(key) != new.get(key)]
    return [f"{shortened(key)} {shortened(known.get(key))} -> {shortened(new.get(key))}" for key in changed]
