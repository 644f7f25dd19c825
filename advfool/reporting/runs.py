"""Finished, failed and interrupted training runs, read from the folder that they lie in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from advfool.evaluation.setup import JOINT
from advfool.reporting.cleaning import clean_config, clean_metrics, clean_name, clean_rate
from advfool.reporting.settings import Setting
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import CONFIG, ENVIRONMENT, METRICS, STATUS, default_cache, read_json, value_at
from advfool.utilities.stored import stored_yaml
from advfool.utilities.text import clean_texts, printable
from advfool.utilities.trust import Trust

CONFIGS = (CONFIG, f".hydra/{CONFIG}")  # the resolved one; and Hydra's, which a run that failed early has as well
NEEDED = ("model", "fooling", "interp", "optimizer")  # keys that tell a training run from an evaluation


@dataclass(frozen=True)
class Run:
    """One training run: its resolved configuration, and what it has written so far.

    Args:
        folder: of the run.
        name: the folder's path below the one that was searched.
        config: the resolved configuration.
        metrics: what metrics.json holds; None until the run has finished.
        environment: what environment.json holds; None where it is missing.
        error: the message of a run that failed.
        trust: what its configuration may name when something is built from it.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    metrics: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    error: str | None = None
    trust: Trust = Trust()

    def described(self, *keys: str) -> dict[str, Any]:
        """Return values of the configuration that something shall be built from.

        Args:
            keys: of the configuration; those that it lacks are left out.

        Raises:
            AdvfoolError: they name a class or a path that is not opened for a stranger.
        """
        found = {key: self.config[key] for key in keys if key in self.config}
        replace(self.trust, places=(self.folder, *self.trust.places, default_cache())).check(found, f"'{self.folder}'")
        return found

    @property
    def state(self) -> str:
        """`finished`, `failed` or `unfinished`."""
        return "finished" if self.metrics else "failed" if self.error else "unfinished"

    @property
    def results(self) -> dict[str, Any]:
        """What metrics.json of a finished run holds.

        Raises:
            AdvfoolError: the run has not finished.
        """
        if not self.metrics:
            raise AdvfoolError(f"'{self.folder}': expected a finished run, this one is {self.state}.")
        return self.metrics

    @property
    def model(self) -> str:
        return self.config["model"]["name"]

    @property
    def fooling(self) -> str:
        return self.config["fooling"]["name"]

    @property
    def interp(self) -> str:
        """The interpreter that the network was trained to fool; several names that were attacked at once, joined."""
        return JOINT.join(attacked_names(self.config))

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def group(self) -> tuple[str, str, str]:
        """Model, fooling and interpreter: what the settings and seeds of several runs are compared within."""
        return self.model, self.fooling, self.interp

    @property
    def setting(self) -> Setting:
        """All other settings that runs must share to be averaged over their seeds."""
        return Setting.of_config(self.config)

    def rate(self, key: str, interp: str) -> float | dict[str, float | None] | None:
        """Look up a rate of the heatmaps of an interpreter.

        Args:
            key: of metrics.json, such as `fsr`, `fsr_null` or `deceptive_rate`.
            interp: the interpreter evaluated with.

        Returns:
            a fraction of 1; for active fooling `{"c1": ..., "c2": ...}`; None where it is not known.
        """
        rates = (self.metrics or {}).get(key)
        return clean_rate(rates.get(interp)) if isinstance(rates, Mapping) else None

    def matched(self, key: str) -> float | None:
        """Look up a rate under the interpreter trained with; the mean of several, and of both classes."""
        values: list[float | None] = []
        for name in attacked_names(self.config):
            rate = self.rate(key, name)
            values += rate.values() if isinstance(rate, Mapping) else [rate]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    @property
    def drop(self) -> float | None:
        """The loss of top-1 accuracy, as a fraction of 1; None until the run has finished."""
        return self.metrics["accuracy"]["drop"]["top1"] if self.metrics else None


def attacked_names(config: Mapping[str, Any]) -> list[str]:
    """List the names of the interpreters that a run was trained to fool; several where it attacks them at once.

    Args:
        config: of the run, perhaps a stranger's.
    """
    others = config.get("also")
    found = [value_at(config, ("interp", "name")), *(others if isinstance(others, list) else ())]
    names = [name for entry in found for name in (entry if isinstance(entry, Mapping) else [entry])]
    return [str(name) for name in names if name is not None] or ["unknown"]


def find_runs(folder: Path) -> list[Run]:
    """Find all training runs in a folder and in those below it.

    Args:
        folder: where to search.

    Returns:
        the runs, sorted by their paths.

    Raises:
        AdvfoolError: there is no such folder, or no run in it.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise AdvfoolError(f"runs={folder}: expected a folder with runs, found no such folder.")
    places = {path.parent for name in (CONFIG, STATUS) for path in folder.rglob(name)}
    places = {place for place in places if not {".hydra", "wandb"} & set(place.relative_to(folder).parts)}
    runs = [read for place in sorted(places) if (read := _read(place, folder))]
    if not runs:
        raise AdvfoolError(f"runs={folder}: expected training runs (folders with a config.yaml), found none.")
    return runs


def _read(place: Path, root: Path) -> Run | None:
    """Read the run in a folder; None where the folder holds something else, such as an evaluation."""
    config = next((found for name in CONFIGS if (found := _config(place, name))), None)
    if config is None or not all(key in config for key in NEEDED):
        return None
    metrics, environment, status = (read_json(place / name) for name in (METRICS, ENVIRONMENT, STATUS))
    name = clean_name(str(place.relative_to(root)) if place != root else place.name)
    error = (status or {}).get("error")
    shown = None if error is None else printable(error)
    return Run(place, name, clean_config(config), clean_metrics(metrics), clean_texts(environment), shown)


def _config(place: Path, name: str) -> dict[str, Any] | None:
    """Read a configuration without resolving it; None where it is missing or cannot be read."""
    try:
        return stored_yaml(place, name)
    except AdvfoolError:
        return None
