"""What every dashboard shows."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import Logger

from advfool.utilities.errors import AdvfoolError

PICTURES = ("heatmaps.png", "training.png", "aopc.png")  # that a run ends with
UNSHOWN = ("ci95", "seed", "fool_weight")  # of metrics.json: pairs of numbers, and what the config says
BY_CLASS = "_by_class"  # a thousand values for each interpreter


class Dashboard(ABC):
    """Abstract: a logger of Lightning that shows a run's config, pictures and results, too.

    To be called in the first of several processes only.
    """

    @abstractmethod
    def show_config(self, config: dict) -> None:
        """The resolved configuration."""

    @abstractmethod
    def show_picture(self, path: Path, step: int) -> None:
        """A picture, under `pictures/` and its file's stem; a later step's picture of that name follows it."""

    @abstractmethod
    def show_results(self, folder: Path, metrics: Mapping, step: int) -> None:
        """What a finished run leaves in its folder, and its metrics."""

    def show_pictures(self, folder: Path, step: int) -> None:
        """The pictures that lie in the folder of a finished run."""
        for name in PICTURES:
            if (folder / name).is_file():
                self.show_picture(folder / name, step)


def dashboards(loggers: Iterable[Logger]) -> list[Dashboard]:
    """Those among a trainer's loggers."""
    return [logger for logger in loggers if isinstance(logger, Dashboard)]


def scalars(metrics: Mapping, name: str = "test") -> dict[str, float]:
    """The numbers of metrics.json by path, without intervals and values of single classes.

    >>> scalars({"fsr": {"gradcam": 1.0, "lrp": None}, "ci95": {"fsr": [0, 1]}, "steps": 6, "model": "resnet_tiny"})
    {'test/fsr/gradcam': 1.0, 'test/steps': 6.0}
    """
    found = {}
    for key, value in metrics.items():
        if key in UNSHOWN or key.endswith(BY_CLASS):
            continue
        if isinstance(value, Mapping):
            found |= scalars(value, f"{name}/{key}")
        elif isinstance(value, int | float):
            found[f"{name}/{key}"] = float(value)
    return found


def require(package: str) -> None:
    """Raises an AdvfoolError where an optional package is not installed."""
    if find_spec(package) is None:
        raise AdvfoolError(f"logger={package} needs the package {package}: pip install 'advfool[{package}]'.")
