"""What the entry points share: where conf/ lies, and how a command ends on an expected error."""

import logging
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


def command(config_name: str) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Makes a task a Hydra command that reports expected errors as a message, with their exit code.

    In a multirun the error goes to the cell's log, the other cells run, and the command ends with exit code 1.
    """

    def decorate(task: Callable[[DictConfig], object]) -> Callable[[], None]:
        @wraps(task)
        def main() -> None:
            failures: list[AdvfoolError] = []

            @wraps(task)
            def job(cfg: DictConfig) -> object:
                try:
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
