"""Looks at the folder that a command is going to write into, before Hydra writes the first file."""

import sys
from collections.abc import Callable
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.stored import check_writable


class Guard(Callback):
    """Hydra's callback that ends a command whose folder would make it write somewhere else."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        _or_end(check_writable, Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        _or_end(_check_sweep, Path(config.hydra.sweep.dir))


def _check_sweep(folder: Path) -> None:
    check_writable(folder, links=False)
    for place in folder.iterdir() if folder.is_dir() else ():
        if place.is_dir():
            check_writable(place)


def _or_end(check: Callable[[Path], None], folder: Path) -> None:
    """Check a folder; end the command where it is refused, since Hydra only warns of errors in callbacks."""
    try:
        check(folder)
    except AdvfoolError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        sys.exit(error.exit_code)
