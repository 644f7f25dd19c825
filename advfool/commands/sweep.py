"""The cells of a sweep: each in a folder named by its settings, run once, gone on with where it broke off.

A cell keeps `status.json` in its folder. One that fails does not stop the others; all are told of at the end.
"""

import hashlib
import json
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

from filelock import FileLock
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from advfool.commands.status import Status
from advfool.utilities.config import about_a_value
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import STATUS, value_at

log = logging.getLogger(__name__)
NAMED = ("model", "fooling", "interp", "seed")  # in every cell's name, whatever is swept
SHOWING = tuple(f"callbacks.{name}" for name in ("progress", "snapshots", "map_metrics", "last"))
PASSING = (
    "experiment",
    "scale",
    "launcher",
    "logger",
    *SHOWING,
    "cache",
    "pictures",
    "data.root",
    "data.workers",
    "hydra",
)
# What changes no result: where things lie, what is shown, and tables that values are looked up in.
NO_SETTINGS = ("resume", "cache", "pictures", "logger", "paper", "scale", "tuned", "steps", "table4", "family")
PLACES = (*SHOWING, "data.cache", "data.root", "data.workers", "trainer.default_root_dir")
PLACES += ("callbacks.checkpoint.dirpath",)
LONGEST = 120  # characters of a name
FAILED = float("nan")  # what a failed cell returns to a sweeper


def other_settings(overrides: Sequence[str]) -> str:
    """The part of a cell's name that tells of settings which not every cell has, e.g. `,fool_weight=2`.

    >>> other_settings(["model=vgg_tiny", "seed=1", "optimizer.lr=1e-3", "fool_weight=5", "+trainer.precision=bf16"])
    ',fool_weight=5,optimizer.lr=1e-3,trainer.precision=bf16'
    """
    told = sorted(override.lstrip("+~") for override in overrides)
    told = [one for one in told if not re.match(rf"({'|'.join(NAMED)})=|({'|'.join(PASSING)})[.=/]", one)]
    plain = [re.sub(r"[^A-Za-z0-9_.=+-]+", "_", one) for one in told]
    name = "".join(f",{one}" for one in plain)
    if len(name) <= LONGEST and plain == told:
        return name
    return f"{name[:LONGEST]}-{hashlib.sha256(','.join(told).encode()).hexdigest()[:8]}"


OmegaConf.register_new_resolver("other_settings", other_settings, replace=True)


def run_cell(
    task: Callable[[DictConfig], object],
    cfg: DictConfig,
    folder: Path,
    result: Callable[[Path], object],
    process: int = 0,
):
    """What the task returns for this cell: read from its folder where it has run before, NaN where it fails.

    process: the number of this one among those that Slurm starts for the cell. The first decides what is done, the
    others do the same.
    """
    if process:
        return _follow(task, cfg, folder, result)
    with FileLock(folder / ".lock"):  # a sweep may hold a cell twice, and two sweeps the same
        status, settings, begun = Status(folder), None, False
        started = time.time()
        try:
            settings = _settings(cfg)
            finished = (folder / "metrics.json").is_file()
            same = status.check(settings, finished)
            if finished:
                log.info("Finished before: %s", folder)
                status.write("skipped", settings)
                return result(folder)
            if not same:
                _clear(folder)
            elif "resume" in cfg and not cfg.resume and (folder / "checkpoints" / "last.ckpt").is_file():
                log.info("Going on with the training that was interrupted in %s", folder)
                cfg.resume = str(folder)
            status.write("running", settings, resume=cfg.get("resume"))
            begun = True
            returned = task(cfg)
        except SystemExit as end:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from end
        except (AdvfoolError, OmegaConfBaseException) as problem:
            error = problem if isinstance(problem, AdvfoolError) else about_a_value(problem)
            log.error("%s", error)
            status.fail(str(error), settings if begun else None)
        except Exception as error:
            log.exception("An error that was not expected")
            status.fail(f"{type(error).__name__}: {error}", settings if begun else None)
        else:
            whole = not cfg.get("resume")  # not only the rest of a training
            status.write("finished", settings, seconds=round(time.time() - started, 2) if whole else None)
            return returned
        return FAILED


def _clear(folder: Path) -> None:
    """Removes what a failed run with other settings has left, so that nothing goes on from there."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for pattern in ("metrics*.csv", "snapshots.*"):
        for path in folder.glob(pattern):
            path.unlink()


def _follow(task: Callable[[DictConfig], object], cfg: DictConfig, folder: Path, result: Callable[[Path], object]):
    """What the first of Slurm's processes has decided for this cell, done in another one."""
    try:
        status = Status(folder).of_this_job()
        if status["outcome"] != "running":
            return FAILED if status["outcome"] == "failed" else result(folder)
        if "resume" in cfg:
            cfg.resume = status["resume"]
        return task(cfg)
    except SystemExit as end:
        raise KeyboardInterrupt from end
    except Exception:  # the first process tells of it
        log.exception("An error in a further process")
        return FAILED


@dataclass
class Sweep:
    """What the command knows of the sweep it runs: where, and under which id its cells report."""

    folder: Path
    id: str
    config: DictConfig

    def outcomes(self) -> dict[Path, dict]:
        """The status of each of its cells that has begun."""
        found = {path.parent: json.loads(path.read_text()) for path in sorted(self.folder.rglob(STATUS))}
        return {folder: status for folder, status in found.items() if status["sweep"] == self.id}

    def tell(self, console: Console | None = None) -> bool:
        """Prints how many cells finished, and which failed with what; returns whether all is well."""
        console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        cells = self.outcomes()
        count = {outcome: sum(cell["outcome"] == outcome for cell in cells.values()) for outcome in OUTCOMES}
        parts = [f"{count[outcome]} {words}" for outcome, words in OUTCOMES.items() if count[outcome]]
        console.print(f"{len(cells)} cells in {self.folder}: {', '.join(parts)}.", markup=False)
        for folder, cell in cells.items():
            if cell["outcome"] == "failed":
                console.print(f"failed: {folder.name}\n  {cell['error']}\n  {_log(folder)}", markup=False)
        return not count["failed"]


OUTCOMES = {"finished": "finished", "skipped": "finished before", "failed": "failed", "running": "broken off"}


class Begin(Callback):
    """Hydra's callback at the start of a sweep: gives it the id that its cells, in whatever process, report under."""

    sweep: Sweep | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        os.environ[SWEEP] = uuid.uuid4().hex[:12]
        Begin.sweep = Sweep(Path(config.hydra.sweep.dir), os.environ[SWEEP], config)


def _settings(cfg: DictConfig) -> dict:
    """The values that decide what comes out; not where things lie."""
    settings = OmegaConf.to_container(cfg, resolve=True)
    settings = {key: value for key, value in settings.items() if key not in NO_SETTINGS}
    for key in PLACES:
        *path, name = key.split(".")
        if node := value_at(settings, path):
            node.pop(name, None)
    return _as_json(settings)


def _as_json(node: object) -> object:
    """Numbers that JSON does not have as text."""
    if isinstance(node, dict):
        return {key: _as_json(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_as_json(value) for value in node]
    return str(node) if isinstance(node, float) and not math.isfinite(node) else node


def _log(folder: Path) -> str:
    logs = sorted(folder.glob("*.log"))
    return f"log: {logs[0]}" if logs else f"folder: {folder}"
