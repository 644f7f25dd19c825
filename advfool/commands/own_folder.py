"""A run in its own folder: done once, resumed where it was interrupted, and never over another run."""

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from advfool.commands.keys import TrainKeys
from advfool.commands.resuming import check_source, has_checkpoint, settings_as_json
from advfool.commands.signals import interrupts_first
from advfool.commands.status import Status
from advfool.utilities.config import about_a_value
from advfool.utilities.errors import AdvfoolError, first_line, with_causes
from advfool.utilities.files import CHECKPOINTS, LOCK, METRICS, PART, STATUS, locked

log = logging.getLogger(__name__)
Task = Callable[[DictConfig], object]
Result = Callable[[Path], object]  # reads from a run's folder what the task returned
OF_THE_SYSTEM = tuple(
    getattr(errno, f"E{name}")
    for name in (
        *("NOSPC", "DQUOT", "FBIG", "ROFS", "ACCES", "PERM", "MFILE", "NFILE", "IO", "NOTDIR", "ISDIR", "NAMETOOLONG"),
        *("LOOP", "EXIST", "NOTEMPTY", "BUSY", "STALE", "REMOTEIO", "NXIO", "NODEV"),
    )
    if hasattr(errno, f"E{name}")
)
IN_WORDS = ("No space left on device", "Too many open files", "File too large", "of ancdata", "Read-only file system")
OWNER = "ADVFOOL_OWNER"  # environment variable: which process works in which folder, known to those it starts


def run_in_folder(
    task: Task, cfg: DictConfig, folder: Path, result: Result, process: int = 0, schema: type = TrainKeys
) -> object:
    """Do a run, unless its folder holds it already; resume it where it was interrupted.

    Args:
        task: does the run.
        cfg: its configuration; it is left as it is.
        folder: of the run.
        result: reads from the folder what the task returned. An AdvfoolError means that the results are damaged: they
            are made again.
        process: the number of this process among those that Slurm or torchrun starts for the run. The first one
            decides what is done, the others do the same.
        schema: the keys of the configuration.

    Returns:
        what the task returned.

    Raises:
        AdvfoolError: the run failed, or the folder holds another one.
        KeyboardInterrupt: it was interrupted.
    """
    try:
        if process:
            return _follow(task, cfg, folder, result)
        if (owner := _owner()) and Path(owner["folder"]) == folder.absolute():
            return task(_resumed(cfg, owner["resume"]))
        with locked(folder / LOCK):  # a sweep may hold a run twice, and two commands the same
            return _run(task, cfg, folder, result, schema)
    except SystemExit as end:  # Lightning's answer to an interrupt
        raise KeyboardInterrupt from end


def _run(task: Task, cfg: DictConfig, folder: Path, result: Result, schema: type) -> object:
    status, started = Status(folder), time.time()
    settings = settings_as_json(cfg, schema)
    finished = (folder / METRICS).is_file()
    _check_free(folder, status, settings, finished)
    if finished and _is_whole(folder, result):
        log.info("Finished before: %s", folder)
        status.write("skipped", settings)
        return result(folder)
    resume = _source(cfg, folder, settings)
    status.write("running", settings, resume=resume)
    (folder / METRICS).unlink(missing_ok=True)
    try:
        with interrupts_first(), _owning(folder, resume):
            returned = task(_resumed(cfg, resume))
    except Exception as error:
        with suppress(OSError):  # a full disk, say
            status.fail(message_of(error), settings)
        raise
    for part in folder.rglob(f"*{PART}"):  # of an attempt that was killed
        if part.is_file() or part.is_symlink():
            part.unlink(missing_ok=True)
    status.write("finished", settings, seconds=None if resume else round(time.time() - started, 2))
    return returned


def remove_unused(folder: Path) -> None:
    """Remove the folder of a run that ended before it began: it has nothing but Hydra's files, a log and the status."""
    own = [path for path in folder.iterdir() if path.name in (STATUS, LOCK, ".hydra") or path.suffix == ".log"]
    if len(own) < len(list(folder.iterdir())) or folder.resolve() == Path.cwd():
        return
    for path in own:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.rmdir()


def message_of(error: Exception) -> str:
    """Put an error into words, with its type where it was not expected."""
    known = expected(error)
    return f"{type(error).__name__}: {error}" if known is None else str(known)


def expected(error: BaseException) -> AdvfoolError | None:
    """Turn an error that the user can correct into an AdvfoolError: of a value, a disk, a permission, a limit.

    Returns:
        the error to show; None for a mistake of the program's.
    """
    if isinstance(error, AdvfoolError):
        return error
    if isinstance(error, OmegaConfBaseException):
        return about_a_value(error)
    for cause in with_causes(error):
        text = first_line(cause)
        if (isinstance(cause, OSError) and cause.errno in OF_THE_SYSTEM) or any(words in text for words in IN_WORDS):
            return AdvfoolError(
                f"The system refuses a file: {text} Make room on the disk, allow writing there, raise the limit "
                "(ulimit -n), or choose another folder; the same command then resumes what was interrupted."
            )
    return None


def _check_free(folder: Path, status: Status, settings: dict, finished: bool) -> None:
    """Raise an AdvfoolError where the folder holds another run that is worth keeping; clear what a failed one left."""
    changed = status.changed(settings)
    if not changed:
        return
    if finished or (has_checkpoint(folder) and not status.failed):
        raise AdvfoolError(
            f"'{folder}' holds a run with other settings: {'; '.join(changed[:5])}. Give this one another folder "
            "(hydra.run.dir=..., for a sweep hydra.sweep.dir=...), or remove that one."
        )
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    for pattern in ("metrics*.csv", "snapshots.*"):
        for path in folder.glob(pattern):
            path.unlink()


def _is_whole(folder: Path, result: Result) -> bool:
    """Tell whether the results of a finished run can be read; say so if they cannot."""
    try:
        result(folder)
    except AdvfoolError as error:
        log.warning("%s It is made again.", error)
        return False
    return True


def _source(cfg: DictConfig, folder: Path, settings: dict) -> str | None:
    """Choose the folder that the run is resumed from: its own where it was interrupted, or the one that is given."""
    if "resume" not in cfg:
        return None
    if has_checkpoint(folder):
        log.info("Resuming the training that was interrupted in %s", folder)
        return str(folder)
    if cfg.resume and Path(cfg.resume).expanduser().absolute() != folder.absolute():
        check_source(cfg.resume, settings)
        return str(cfg.resume)
    return None


def _resumed(cfg: DictConfig, folder: str | None) -> DictConfig:
    """Copy the configuration, with the run that is resumed."""
    copied = cfg.copy()
    if "resume" in cfg:
        copied.resume = folder
    return copied


def _owner() -> dict | None:
    """Say which process works in which folder, where one of those that started this one does."""
    return json.loads(os.environ[OWNER]) if OWNER in os.environ else None


@contextmanager
def _owning(folder: Path, resume: str | None) -> Iterator[None]:
    """Tell the processes that are started meanwhile that this one works in the folder."""
    before = os.environ.get(OWNER)  # of a command that does a run within its own
    os.environ[OWNER] = json.dumps({"folder": str(folder.absolute()), "resume": resume})
    try:
        yield
    finally:
        os.environ.pop(OWNER)
        if before is not None:
            os.environ[OWNER] = before


def _follow(task: Task, cfg: DictConfig, folder: Path, result: Result) -> object:
    """Do in a further process what the first of the job's processes has decided for this run."""
    status = Status(folder).of_this_job()
    if status["outcome"] == "failed":
        raise AdvfoolError(f"The first process of this job could not start the run in '{folder}'.")
    return task(_resumed(cfg, status["resume"])) if status["outcome"] == "running" else result(folder)
