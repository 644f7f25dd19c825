"""What the entry points share: where conf/ lies, and how a command ends on an expected error."""

import logging
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from advfool.errors import AdvfoolError

log = logging.getLogger(__name__)
PACKAGE = Path(__file__).parent


def conf_dir() -> Path:
    """The folder of the configuration: inside the installed package, or beside it in a checkout."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"


def command(
    config_name: str, result: Callable[[Path], object] | None = None
) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Makes a task a Hydra command that reports expected errors as a message, with their exit code.

    In a multirun the error goes to the cell's log, the other cells run, and the command ends with exit code 1. A
    cell that Lightning would start more processes for is run as a command of its own, because those processes start
    with the command line of the first: `result` reads what the task returned from the cell's folder.
    """

    def decorate(task: Callable[[DictConfig], object]) -> Callable[[], None]:
        @wraps(task)
        def main() -> None:
            failures: list[AdvfoolError] = []

            @wraps(task)
            def job(cfg: DictConfig) -> object:
                try:
                    if HydraConfig.get().mode is RunMode.MULTIRUN and _starts_processes(cfg):
                        return _run_alone(config_name, result)
                    return task(cfg)
                except (AdvfoolError, OmegaConfBaseException) as problem:
                    error = problem if isinstance(problem, AdvfoolError) else _about_a_value(problem)
                    if HydraConfig.get().mode is not RunMode.RUN:
                        log.error("%s", error)
                        raise CompactHydraException(str(error)) from None
                    failures.append(error)
                    return None

            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(job)()
            if failures:
                Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {failures[0]}", markup=False)
                sys.exit(failures[0].exit_code)

        return main

    return decorate


def _starts_processes(cfg: DictConfig) -> bool:
    """Whether Lightning will start further processes on this machine (and not find them started by Slurm)."""
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    trainer = cfg.get("trainer") or {}
    many = trainer.get("devices", 1) not in (0, 1) or trainer.get("num_nodes", 1) != 1
    return many and not str(trainer.get("strategy")).startswith("single") and not SLURMEnvironment.detect()


def _run_alone(config_name: str, result: Callable[[Path], object] | None) -> object:
    """The current cell of a sweep as a single run, with its own overrides and folder."""
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    line = [sys.executable, "-m", f"advfool.{config_name}", *hydra_cfg.overrides.task]
    line += [f"hydra.run.dir='{str(folder).replace(chr(39), chr(92) + chr(39))}'", "hydra.mode=RUN"]
    for source in hydra_cfg.runtime.config_sources:
        if source.provider == "command-line":
            line += ["--config-dir", source.path]
    done = subprocess.run(line, cwd=hydra_cfg.runtime.cwd, check=False)
    if done.returncode:
        raise AdvfoolError(f"The run in '{folder}' ended with exit code {done.returncode}; its message is above.")
    return result(folder) if result else None


def _about_a_value(problem: OmegaConfBaseException) -> AdvfoolError:
    """A value that is missing, or that refers to something that does not exist."""
    first = str(problem).splitlines()[0]
    if not problem.full_key:
        return AdvfoolError(
            f"The configuration refers to a value that does not exist: {first}. Override what refers to it."
        )
    return AdvfoolError(
        f"The configuration has no usable value for '{problem.full_key}': {first}. Give it: {problem.full_key}=..."
    )
