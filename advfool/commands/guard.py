"""Looks at the folder that a command is going to write into, before Hydra writes the first file."""

import sys
from collections.abc import Callable
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from advfool.utilities.errors import AdvfoolError, first_line
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


def _check_place(folder: Path) -> None:
    """Refuse a folder that cannot exist: a file, something below a file, a name that is too long."""
    try:
        above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except (OSError, ValueError) as error:
        raise AdvfoolError(f"hydra.run.dir must be a folder's path, got '{folder}': {first_line(error)}") from error
    if not above.is_dir():
        raise AdvfoolError(f"hydra.run.dir must be a folder's path, got '{folder}', but '{above}' is a file.")


def _or_end(check: Callable[[Path], None], folder: Path) -> None:
    """Check a folder; end the command where it is refused, since Hydra only warns of errors in callbacks."""
    try:
        _check_place(folder)
        check(folder)
    except AdvfoolError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        sys.exit(error.exit_code)
