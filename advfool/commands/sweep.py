"""The runs of a sweep: each in a folder named by its settings, done once, and resumed where it was interrupted.

A run keeps `status.json` in its folder. A run that fails does not stop the others; failures are summarised at the end.
"""

import hashlib
import logging
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from advfool.commands.keys import TrainKeys
from advfool.commands.own_folder import Result, Task, expected, message_of, run_in_folder
from advfool.commands.schema import is_named
from advfool.commands.status import OUTCOMES, SWEEP, Status, read_status
from advfool.utilities.files import STATUS

log = logging.getLogger(__name__)
FAILED = float("nan")  # what a failed run returns to a sweeper


def other_settings(overrides: Sequence[str], *, _root_: Any = None) -> str:
    """Tell apart the runs of a sweep by the settings that not all of them have: the end of a run's folder name.

    Args:
        overrides: those of the run, as on the command line.
        _root_: the whole configuration, handed in by OmegaConf.

    Returns:
        a dash and eight hexadecimal digits, or nothing where there are no such settings.

    >>> other_settings(["model=vgg_tiny", "seed=1"])
    ''
    >>> other_settings(["seed=1", "optimizer.lr=1e-3"]) == other_settings(["optimizer.lr=1e-3", "seed=2"])
    True
    """
    named = sorted(override.lstrip("+~") for override in overrides if is_named(_root_ or {}, override))
    return f"-{hashlib.sha256(','.join(named).encode()).hexdigest()[:8]}" if named else ""


OmegaConf.register_new_resolver("other_settings", other_settings, replace=True)


def run_in_sweep(
    task: Task, cfg: DictConfig, folder: Path, result: Result, process: int = 0, schema: type = TrainKeys
) -> object:
    """Do one run of a sweep, unless its folder holds it already.

    Args:
        task: does the run.
        cfg: its configuration; it is left as it is.
        folder: of the run.
        result: reads from the folder what the task returned.
        process: the number of this process among those that Slurm starts for the run.
        schema: the keys of the configuration.

    Returns:
        what the task returned, or NaN where the run failed.
    """
    try:
        return run_in_folder(task, cfg, folder, result, process, schema)
    except Exception as error:
        if known := expected(error):
            log.error("%s", known)
        else:
            log.exception("An error that was not expected")
        if not process:
            with suppress(OSError):  # a full disk, say
                Status(folder).fail(message_of(error), None)
    return FAILED


@dataclass
class Sweep:
    """The sweep that a command runs.

    Args:
        folder: of the sweep.
        id: under which its runs report.
        config: its configuration.
    """

    folder: Path
    id: str
    config: DictConfig

    def outcomes(self) -> dict[Path, dict]:
        """Read the status of each of its runs that has started, by folder."""
        found = {path.parent: read_status(path.parent) or {} for path in sorted(self.folder.rglob(STATUS))}
        return {folder: status for folder, status in found.items() if status.get("sweep") == self.id}

    def report(self, console: Console | None = None) -> bool:
        """Print how many runs finished and which failed, with their errors; return whether all finished."""
        console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        runs = self.outcomes()
        count = {outcome: sum(run["outcome"] == outcome for run in runs.values()) for outcome in OUTCOMES}
        parts = [f"{count[outcome]} {words}" for outcome, words in OUTCOMES.items() if count[outcome]]
        console.print(f"{len(runs)} runs in {self.folder}: {', '.join(parts)}.", markup=False)
        for folder, run in runs.items():
            if run["outcome"] == "failed":
                console.print(f"failed: {folder.name}\n  {run['error']}\n  {_log(folder)}", markup=False)
        return bool(runs) and not count["failed"] and not count["running"]


class Begin(Callback):
    """Hydra's callback at the start of a sweep: gives it the id that its runs, in whatever process, report under."""

    sweep: Sweep | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        os.environ[SWEEP] = uuid.uuid4().hex[:12]
        Begin.sweep = Sweep(Path(config.hydra.sweep.dir), os.environ[SWEEP], config)


def _log(folder: Path) -> str:
    logs = sorted(folder.glob("*.log"))
    return f"log: {logs[0]}" if logs else f"folder: {folder}"
