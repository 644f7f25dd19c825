"""What the entry points share: where conf/ lies, and how a command ends on an expected error."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from advfool.commands.sweep import Begin, Sweep, run_cell
from advfool.utilities.config import about_a_value, conf_dir
from advfool.utilities.errors import AdvfoolError


def command(
    config_name: str,
    result: Callable[[Path], object] | None = None,
    at_end: Callable[[Sweep], object] | None = None,
) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Makes a task a Hydra command that reports expected errors as a message, with their exit code.

    A multirun is a sweep (see `advfool.sweeps`) that ends with an account of its cells, `at_end` and exit code 1 if any
    of them failed; `result` reads from a cell's folder what the task returned. A cell that Lightning would start more
    processes for is run as a command of its own, because those processes start with the command line of the first.
    """

    def decorate(task: Callable[[DictConfig], object]) -> Callable[[], None]:
        @wraps(task)
        def main() -> None:
            failures: list[AdvfoolError] = []

            @wraps(task)
            def job(cfg: DictConfig) -> object:
                folder = Path(HydraConfig.get().runtime.output_dir)
                if HydraConfig.get().mode is RunMode.MULTIRUN:
                    alone = partial(_run_alone, config_name, result)
                    run = alone if _starts_processes(cfg) else task
                    return run_cell(run, cfg, folder, result or (lambda _: None), _slurm_process())
                try:
                    return task(cfg)
                except (AdvfoolError, OmegaConfBaseException) as problem:
                    error = problem if isinstance(problem, AdvfoolError) else about_a_value(problem)
                    failures.append(error)
                    return None

            Begin.sweep = None
            well = True
            try:
                try:
                    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(job)()
                except SystemExit:  # Hydra's answer to an error outside the cells; a worker was killed, say
                    if Begin.sweep is None:
                        raise
                    well = False
                    _say("The sweep was broken off by the error above. It goes on when the command is given again.")
                if Begin.sweep:
                    well = _end(Begin.sweep, at_end) and well
            except KeyboardInterrupt:
                if Begin.sweep:
                    Begin.sweep.tell()
                _say("Interrupted. A sweep goes on when the command is given again, a single run with resume=FOLDER.")
                sys.exit(130)
            except AdvfoolError as error:
                failures.append(error)
            if failures:
                _say(f"error: {failures[0]}")
                sys.exit(failures[0].exit_code)
            if not well:
                sys.exit(1)

        return main

    return decorate


def _end(sweep: Sweep, at_end: Callable[[Sweep], object] | None) -> bool:
    """The account of a sweep, then what is made of its runs."""
    well = sweep.tell()
    if at_end:
        at_end(sweep)
    return well


def _say(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def _starts_processes(cfg: DictConfig) -> bool:
    """Whether Lightning will start further processes on this machine (and not find them started by Slurm)."""
    trainer = cfg.get("trainer") or {}
    many = trainer.get("devices", 1) not in (0, 1) or trainer.get("num_nodes", 1) != 1
    return many and not str(trainer.get("strategy")).startswith("single") and not _in_slurm()


def _in_slurm() -> bool:
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    return SLURMEnvironment.detect()


def _slurm_process() -> int:
    """The number of this process among those that Slurm has started for a cell."""
    return int(os.environ.get("SLURM_PROCID", 0)) if _in_slurm() else 0


def _run_alone(config_name: str, result: Callable[[Path], object] | None, cfg: DictConfig) -> object:
    """The current cell of a sweep as a single run, with its own overrides and folder."""
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    line = [sys.executable, "-m", f"advfool.{config_name}", *hydra_cfg.overrides.task]
    line += [f"hydra.run.dir={_quoted(str(folder))}", "hydra.mode=RUN"]
    if cfg.get("resume"):
        line += [f"resume={_quoted(cfg.resume)}"]
    for source in hydra_cfg.runtime.config_sources:
        if source.provider == "command-line":
            line += ["--config-dir", source.path]
    done = subprocess.run(line, cwd=hydra_cfg.runtime.cwd, check=False)
    if done.returncode:
        raise AdvfoolError(f"The run in '{folder}' ended with exit code {done.returncode}; its message is above.")
    return result(folder) if result else None


def _quoted(text: str) -> str:
    """A value for Hydra's command line."""
    return f"'{text.replace(chr(39), chr(92) + chr(39))}'"
