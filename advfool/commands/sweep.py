"""The runs of a sweep: each in a folder named by its settings, done once, and resumed where it was interrupted.

A run keeps `status.json` in its folder. A run that fails does not stop the others; failures are summarised at the end.
"""

import hashlib
import logging
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from advfool.commands.keys import TrainKeys
from advfool.commands.schema import is_named, settings_of
from advfool.commands.status import SWEEP, Status
from advfool.utilities.config import about_a_value
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import CHECKPOINTS, METRICS, STATUS, read_json

log = logging.getLogger(__name__)
LONGEST = 120  # characters of a name
FAILED = float("nan")  # what a failed run returns to a sweeper
OUTCOMES = {"finished": "finished", "skipped": "finished before", "failed": "failed", "running": "interrupted"}
Task = Callable[[DictConfig], object]
Result = Callable[[Path], object]  # reads from a run's folder what the task returned


def other_settings(overrides: Sequence[str], *, _root_: Any = None) -> str:
    """Name the settings that not every run of a sweep has, e.g. `,fool_weight=2`: the end of a run's folder name.

    Args:
        overrides: those of the run, as on the command line.
        _root_: the whole configuration, handed in by OmegaConf.

    >>> other_settings(["model=vgg_tiny", "seed=1", "optimizer.lr=1e-3", "fool_weight=5", "+trainer.precision=bf16"])
    ',fool_weight=5,optimizer.lr=1e-3,trainer.precision=bf16'
    """
    named = sorted(override.lstrip("+~") for override in overrides if is_named(_root_ or {}, override))
    plain = [re.sub(r"[^A-Za-z0-9_.=+-]+", "_", one) for one in named]
    name = "".join(f",{one}" for one in plain)
    if len(name) <= LONGEST and plain == named:
        return name
    return f"{name[:LONGEST]}-{hashlib.sha256(','.join(named).encode()).hexdigest()[:8]}"


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
        process: the number of this process among those that Slurm starts for the run. The first one decides what is
            done, the others do the same.
        schema: the keys of the configuration.

    Returns:
        what the task returned, or NaN where the run failed.
    """
    if process:
        return _follow(task, cfg, folder, result)
    with FileLock(folder / ".lock"):  # a sweep may hold a run twice, and two sweeps the same
        status, settings, started_here = Status(folder), {}, False
        started = time.time()
        try:
            settings = {path: _as_json(value) for path, value in settings_of(cfg, schema).items()}
            finished = (folder / METRICS).is_file()
            same = status.check(settings, finished)
            if finished:
                log.info("Finished before: %s", folder)
                status.write("skipped", settings)
                return result(folder)
            if not same:
                _clear(folder)
            elif "resume" in cfg and not cfg.resume and (folder / CHECKPOINTS / "last.ckpt").is_file():
                log.info("Resuming the training that was interrupted in %s", folder)
                cfg = _resumed(cfg, str(folder))
            status.write("running", settings, resume=cfg.get("resume"))
            started_here = True
            returned = task(cfg)
        except SystemExit as end:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from end
        except (AdvfoolError, OmegaConfBaseException) as problem:
            error = problem if isinstance(problem, AdvfoolError) else about_a_value(problem)
            log.error("%s", error)
            status.fail(str(error), settings if started_here else None)
        except Exception as error:
            log.exception("An error that was not expected")
            status.fail(f"{type(error).__name__}: {error}", settings if started_here else None)
        else:
            whole = not cfg.get("resume")  # not only the rest of a training
            status.write("finished", settings, seconds=round(time.time() - started, 2) if whole else None)
            return returned
        return FAILED


def _resumed(cfg: DictConfig, folder: str) -> DictConfig:
    """Copy the configuration, with the run that is resumed."""
    copied = cfg.copy()
    copied.resume = folder
    return copied


def _clear(folder: Path) -> None:
    """Remove what a failed run with other settings has left, so that nothing is resumed from there."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    for pattern in ("metrics*.csv", "snapshots.*"):
        for path in folder.glob(pattern):
            path.unlink()


def _follow(task: Task, cfg: DictConfig, folder: Path, result: Result) -> object:
    """Do in a further process what the first of Slurm's processes has decided for this run."""
    try:
        status = Status(folder).of_this_job()
        if status["outcome"] != "running":
            return FAILED if status["outcome"] == "failed" else result(folder)
        return task(_resumed(cfg, status["resume"]) if "resume" in cfg else cfg)
    except SystemExit as end:
        raise KeyboardInterrupt from end
    except Exception:  # the first process reports it
        log.exception("An error in a further process")
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
        found = {path.parent: read_json(path) or {} for path in sorted(self.folder.rglob(STATUS))}
        return {folder: status for folder, status in found.items() if status.get("sweep") == self.id}

    def report(self, console: Console | None = None) -> bool:
        """Print how many runs finished and which failed, with their errors; return whether none failed."""
        console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        runs = self.outcomes()
        count = {outcome: sum(run["outcome"] == outcome for run in runs.values()) for outcome in OUTCOMES}
        parts = [f"{count[outcome]} {words}" for outcome, words in OUTCOMES.items() if count[outcome]]
        console.print(f"{len(runs)} runs in {self.folder}: {', '.join(parts)}.", markup=False)
        for folder, run in runs.items():
            if run["outcome"] == "failed":
                console.print(f"failed: {folder.name}\n  {run['error']}\n  {_log(folder)}", markup=False)
        return not count["failed"]


class Begin(Callback):
    """Hydra's callback at the start of a sweep: gives it the id that its runs, in whatever process, report under."""

    sweep: Sweep | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        os.environ[SWEEP] = uuid.uuid4().hex[:12]
        Begin.sweep = Sweep(Path(config.hydra.sweep.dir), os.environ[SWEEP], config)


def _as_json(node: object) -> object:
    """Turn numbers that JSON does not have into text."""
    if isinstance(node, dict):
        return {key: _as_json(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_as_json(value) for value in node]
    return str(node) if isinstance(node, float) and not math.isfinite(node) else node


def _log(folder: Path) -> str:
    logs = sorted(folder.glob("*.log"))
    return f"log: {logs[0]}" if logs else f"folder: {folder}"
