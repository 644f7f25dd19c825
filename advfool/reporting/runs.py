"""Finished, failed and interrupted training runs, read back from the folder they lie in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from yaml import YAMLError

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import STATUS, read_json


@dataclass(frozen=True)
class Run:
    """One training run: its resolved config, and what it has left behind so far.

    name: the folder's path below the one that was searched. metrics: None until the run has finished. error: the
    message of a cell that failed.
    """

    folder: Path
    name: str
    config: dict
    metrics: dict | None = None
    environment: dict | None = None
    error: str | None = None

    @property
    def state(self) -> str:
        """`finished`, `failed` or `unfinished`."""
        return "finished" if self.metrics else "failed" if self.error else "unfinished"

    @property
    def model(self) -> str:
        return self.config["model"]["name"]

    @property
    def fooling(self) -> str:
        return self.config["fooling"]["name"]

    @property
    def interp(self) -> str:
        """The interpreter the network was fine-tuned to fool."""
        return self.config["interp"]["name"]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    def fsr(self, interp: str) -> float | dict[str, float] | None:
        """The FSR under an interpreter as a fraction (of active fooling {"c1": ..., "c2": ...}), None if not known."""
        return (self.metrics or {}).get("fsr", {}).get(interp)

    @property
    def matched_fsr(self) -> float | None:
        """The FSR under the interpreter trained with; of active fooling the mean of both classes."""
        rate = self.fsr(self.interp)
        if isinstance(rate, Mapping):
            return None if None in rate.values() else sum(rate.values()) / len(rate)
        return rate

    @property
    def drop(self) -> float | None:
        """The loss of top-1 accuracy, as a fraction."""
        return self.metrics["accuracy"]["drop"]["top1"] if self.metrics else None


def find_runs(folder: Path) -> list[Run]:
    """All training runs in a folder and those below it, by name.

    Raises:
        AdvfoolError: there is no such folder, or no run in it.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise AdvfoolError(f"runs={folder}: expected a folder with runs, found no such folder.")
    places = {path.parent for name in ("config.yaml", STATUS) for path in folder.rglob(name)}
    places = {place for place in places if not {".hydra", "wandb"} & set(place.relative_to(folder).parts)}
    runs = [read for place in sorted(places) if (read := _read(place, folder))]
    if not runs:
        raise AdvfoolError(f"runs={folder}: expected training runs (folders with a config.yaml), found none.")
    return runs


def _read(place: Path, root: Path) -> Run | None:
    """The run in a folder, or None where it holds something else, such as an evaluation."""
    found = (_yaml(path) for path in (place / "config.yaml", place / ".hydra" / "config.yaml"))
    config = next((config for config in found if config), None)
    if not isinstance(config, dict) or not all(key in config for key in ("model", "fooling", "interp", "optimizer")):
        return None
    files = {name: read_json(place / name) for name in ("metrics.json", "environment.json", STATUS)}
    error = (files[STATUS] or {}).get("error")
    name = str(place.relative_to(root)) if place != root else place.name
    return Run(place, name, config, files["metrics.json"], files["environment.json"], error)


def _yaml(path: Path) -> dict | None:
    """A config; None where it is missing or was cut off while being written."""
    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, YAMLError):
        return None
