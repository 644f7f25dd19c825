"""What the entry points share: where conf/ lies, and how a command ends on an expected error."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from advfool.errors import AdvfoolError

PACKAGE = Path(__file__).parent


def conf_dir() -> Path:
    """The folder of the configuration: inside the installed package, or beside it in a checkout."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"


def command(config_name: str) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Makes a task a Hydra command that reports expected errors as a message, with their exit code.

    In a multirun the error is raised, so that Hydra marks the job as failed.
    """

    def decorate(task: Callable[[DictConfig], object]) -> Callable[[], None]:
        @wraps(task)
        def main() -> None:
            failures: list[AdvfoolError] = []

            @wraps(task)
            def job(cfg: DictConfig) -> object:
                try:
                    return task(cfg)
                except AdvfoolError as error:
                    if HydraConfig.get().mode is not RunMode.RUN:
                        raise
                    failures.append(error)
                    return None

            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(job)()
            if failures:
                Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {failures[0]}", markup=False)
                sys.exit(failures[0].exit_code)

        return main

    return decorate
