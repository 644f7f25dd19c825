"""Names of folders, which every shell and Hydra take as they are, and paths on Hydra's command line."""

import os
import re
import secrets
import shlex
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

LONGEST = 100  # characters of a name
STARTED = "ADVFOOL_STARTED"  # environment variable: the name of this start, which workers share
PATHS = ("run", "runs", "resume", "original", "manipulated", "image", "output", "cache", "data.root", "hydra.run.dir")
PLAIN = r"[A-Za-z0-9_./+-]+"  # what neither a shell nor Hydra takes for something else


HOME = r"~[A-Za-z0-9_.-]*(/[^,]*)?$"  # a path that begins with a home folder, no list of several


def name_start() -> None:
    """Give this start of a command a name that no other one has; processes of one job share it."""
    os.environ[STARTED] = _job_name() or f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(3)}"


def started() -> str:
    """Return the name of this start: the time, and what tells it from those in the same second."""
    if STARTED not in os.environ:
        name_start()
    return os.environ[STARTED]


def folder_name(*parts: object) -> str:
    """Join names to the name of a folder.

    >>> folder_name("resnet_tiny", "location", "a b/../c=[1,2]")
    'resnet_tiny-location-a_b_c_1_2'
    """
    plain = [re.sub(r"[^A-Za-z0-9_.+]+", "_", re.sub(r"\.{2,}", "_", str(part))) for part in parts]
    return re.sub(r"_{2,}", "_", "-".join(part.strip("_.") or "_" for part in plain))[:LONGEST]


OmegaConf.register_new_resolver("started", started, replace=True)
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def quoted(path: str) -> str:
    r"""Quote a path for Hydra's command line, where it needs that.

    >>> quoted("runs/demo"), quoted("my runs/a=1"), quoted("it's")
    ('runs/demo', "'my runs/a=1'", "'it\\'s'")
    """
    if re.fullmatch(PLAIN, path):
        return path
    escaped = re.sub(r"(\\+)(?='|$)", r"\1\1", path).replace("'", r"\'")
    return f"'{escaped}'"


def with_quoted_paths(arguments: list[str]) -> list[str]:
    """Quote the values of those overrides that are paths of existing files and folders, or begin with a home folder.

    So each command takes a path as another one printed it, and as a shell completes it; `~` is expanded, which not
    every shell does behind an equals sign.

    Args:
        arguments: of a command.
    """
    return [_with_quoted_path(argument) for argument in arguments]


def _with_quoted_path(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or re.fullmatch(PLAIN, value) or not value:
        return argument
    if re.match(HOME, value) and ("/" in value or key in PATHS):  # Hydra's grammar has no ~, and zsh leaves it
        with suppress(RuntimeError):  # there is no such user
            return f"{key}={quoted(str(Path(value).expanduser()))}"
    try:
        exists = Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        exists = False
    return f"{key}={quoted(value)}" if exists and ("/" in value or key in PATHS) else argument


def how_to_resume(config_name: str, folder: Path | None) -> str:
    """Say how a command that was interrupted is resumed.

    Args:
        config_name: of the configuration, which is also the command's name.
        folder: of the single run; None for a sweep, and where no run had started.
    """
    command = ["python", "-m", f"advfool.{config_name}"]
    given = sys.argv[1:]
    if folder is None:
        return f"To resume, give the command again: {shlex.join([*command, *given])}"
    own = [argument for argument in given if argument.partition("=")[0] not in ("hydra.run.dir", "resume")]
    own += [f"hydra.run.dir={quoted(str(folder))}"]
    own += [f"resume={quoted(str(folder))}"] if config_name == "train" else []
    return f"To resume: {shlex.join([*command, *own])}"


def _job_name() -> str | None:
    """Name the job, where Slurm or torchrun have started several processes for it."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1:
        return "slurm-" + "-".join(
            os.environ.get(f"SLURM_{key}", "0") for key in ("JOB_ID", "RESTART_COUNT", "STEP_ID")
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return folder_name("torchrun", os.environ["TORCHELASTIC_RUN_ID"], os.environ.get("MASTER_PORT", ""))
    return None
