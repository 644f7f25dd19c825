"""What the commands share: how Hydra runs them, how a sweep ends, and how expected errors are shown."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from advfool.commands.joint import with_joint_choices
from advfool.commands.keys import EvaluateKeys, NullsKeys, TrainKeys
from advfool.commands.naming import how_to_resume, name_start, quoted, with_quoted_paths
from advfool.commands.overrides import explain
from advfool.commands.own_folder import Result, Task, expected, remove_unused, run_in_folder
from advfool.commands.signals import (
    Interruptions,
    end_with_parent,
    interruptible,
    interrupts_first,
    parent_of_others,
    undisturbed,
)
from advfool.commands.sweep import Begin, Sweep, run_in_sweep
from advfool.commands.validation import Refused, check_config
from advfool.utilities.config import conf_dir
from advfool.utilities.errors import AdvfoolError

SCHEMAS = {"train": TrainKeys, "evaluate": EvaluateKeys, "nulls": NullsKeys}
Reader = Callable[[Path, DictConfig], object]
FULL_ERROR = "HYDRA_FULL_ERROR"


def command(
    config_name: str, result: Reader | None = None, at_end: Callable[[Sweep], object] | None = None
) -> Callable[[Task], Callable[[], None]]:
    """Make a task a Hydra command that shows expected errors as a message and exits with their code.

    A multirun is a sweep (see `advfool.commands.sweep`): it ends with a summary of its runs, `at_end`, and exit code 1
    if any of them failed. A run that Lightning would start more processes for is done by a command of its own, because
    those processes start with the command line of the first.

    Args:
        config_name: of the configuration, which is also the command's name.
        result: reads from a run's folder what the task returned, with the configuration that asks for it.
        at_end: what is done with the finished sweep.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @wraps(task)
        def main() -> None:
            failures: list[AdvfoolError] = []
            started: list[bool] = []
            folders: list[Path] = []  # of the single run

            @wraps(task)
            def job(cfg: DictConfig) -> object:
                started.append(True)
                if HydraConfig.get().mode is RunMode.MULTIRUN:
                    return _run_of_sweep(_validated(task, config_name), cfg, config_name, result)
                folders.append(Path(HydraConfig.get().runtime.output_dir))
                try:
                    with interrupts_first():
                        return _run_single(task, cfg, config_name, result)
                except Exception as problem:
                    if (error := expected(problem)) is None:
                        raise
                    failures.append(error)
                    if config_name in SCHEMAS and not _process_of_job():
                        with suppress(OSError):
                            remove_unused(folders[0])
                    return None

            Begin.sweep = None
            name_start()
            sys.argv[1:] = with_quoted_paths(sys.argv[1:])
            end_with_parent()
            interruptions = Interruptions()
            try:
                sys.argv[1:] = with_joint_choices(sys.argv[1:], config_name)
                with interruptible() as interruptions, parent_of_others():
                    well = _run_hydra(job, config_name)
                    if Begin.sweep:
                        well = _end(Begin.sweep, at_end) and well
            except KeyboardInterrupt:
                with undisturbed():
                    if Begin.sweep:
                        Begin.sweep.report()
                    _say(f"Interrupted. {how_to_resume(config_name, folders[0] if folders else None)}")
                sys.exit(interruptions.exit_code)
            except Refused as refused:
                failures.append(refused.error)
                well = False
            except AdvfoolError as error:
                failures.append(error)
                well = False
            except Exception as error:
                if started:  # a mistake of the program's, which its traceback shows
                    raise
                failures.append(_of_composition(error, config_name))
                well = False
            if failures:
                _say(f"error: {failures[0]}")
                sys.exit(failures[0].exit_code)
            if not well:
                sys.exit(1)

        return main

    return decorate


def _run_hydra(job: Task, config_name: str) -> bool:
    """Run Hydra; return whether the sweep, if it is one, was not stopped by an error outside its runs."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"  # Hydra raises its errors, instead of printing them with advice
    try:
        with interrupts_first():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(job)()
    except HydraException as error:
        if Begin.sweep is None or not Begin.sweep.outcomes():
            raise
        _say(f"error: {_of_composition(error, config_name)}")
        _say("The sweep was stopped by the error above. Give the command again to resume it.")
        return False
    except Exception:  # outside the runs; a worker was killed, say
        if Begin.sweep is None:
            raise
        traceback.print_exc()
        _say("The sweep was stopped by the error above. Give the command again to resume it.")
        return False
    finally:
        os.environ.pop(FULL_ERROR)
        if before is not None:
            os.environ[FULL_ERROR] = before
    return True


def _of_composition(error: Exception, config_name: str) -> AdvfoolError:
    """Explain an error before any run: a key, a choice or a flag of the command line that does not exist."""
    return explain(error, config_name, sys.argv[1:])


def _validated(task: Task, config_name: str) -> Task:
    """Check a run's configuration before anything of it is done."""

    @wraps(task)
    def validated(cfg: DictConfig) -> object:
        check_config(cfg, config_name)
        return task(cfg)

    return validated


def _run_single(task: Task, cfg: DictConfig, config_name: str, result: Reader | None) -> object:
    """Do a single run, in a folder of its own if it is one of those that have one."""
    if config_name not in SCHEMAS:
        return task(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    return run_in_folder(task, cfg, folder, _reads(result, cfg), _process_of_job(), SCHEMAS[config_name])


def _run_of_sweep(task: Task, cfg: DictConfig, config_name: str, result: Reader | None) -> object:
    folder = Path(HydraConfig.get().runtime.output_dir)
    if Begin.sweep is None and "joblib" in str(HydraConfig.get().launcher.get("_target_")):
        end_with_parent()
    run = partial(_run_alone, config_name, result) if _starts_processes(cfg) else task
    schema = SCHEMAS.get(config_name, TrainKeys)
    return run_in_sweep(run, cfg, folder, _reads(result, cfg), _process_of_job(), schema)


def _reads(result: Reader | None, cfg: DictConfig) -> Result:
    return (lambda folder: result(folder, cfg)) if result else (lambda _: None)


def _end(sweep: Sweep, at_end: Callable[[Sweep], object] | None) -> bool:
    """Print the summary of a sweep, then make what is made of its runs; return whether no run failed."""
    well = sweep.report()
    if at_end:
        at_end(sweep)
    return well


def _say(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def _starts_processes(cfg: DictConfig) -> bool:
    """Tell whether Lightning will start further processes on this machine (and not find them started by Slurm)."""
    trainer = cfg.get("trainer") or {}
    many = trainer.get("devices", 1) not in (0, 1) or trainer.get("num_nodes", 1) != 1
    return many and not str(trainer.get("strategy")).startswith("single") and not _in_slurm()


def _in_slurm() -> bool:
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    return SLURMEnvironment.detect()


def _process_of_job() -> int:
    """Return the number of this process among those that Slurm or torchrun has started for a run."""
    return int(
        os.environ.get("SLURM_PROCID" if _in_slurm() else "RANK" if "TORCHELASTIC_RUN_ID" in os.environ else "", 0)
    )


def _run_alone(config_name: str, result: Reader | None, cfg: DictConfig) -> object:
    """Do the current run of a sweep as a single run, with its own overrides and folder."""
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    line = [sys.executable, "-m", f"advfool.{config_name}", *hydra_cfg.overrides.task]
    line += [f"hydra.run.dir={quoted(str(folder))}", "hydra.mode=RUN"]
    for source in hydra_cfg.runtime.config_sources:
        if source.provider == "command-line":
            line += ["--config-dir", source.path]
    done = subprocess.run(line, cwd=hydra_cfg.runtime.cwd, check=False)
    if done.returncode:
        raise AdvfoolError(f"The run in '{folder}' ended with exit code {done.returncode}; its message is above.")
    return _reads(result, cfg)(folder)
