"""What every dashboard shows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import Logger

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import PICTURES

NOT_SHOWN = ("ci95", "seed", "fool_weight")  # of metrics.json: pairs of numbers, and what the config says
BY_CLASS = "_by_class"  # a thousand values for each interpreter
ReportWriter = Callable[[Path, Path], Path]  # from a folder of runs to the page in another folder


class Dashboard(ABC):
    """Abstract: a logger of Lightning that also shows a run's config, pictures and results.

    Its methods are called in the first of several processes only.
    """

    @abstractmethod
    def show_config(self, config: dict) -> None:
        """Show the resolved configuration."""

    @abstractmethod
    def show_picture(self, path: Path, step: int) -> None:
        """Show a picture under `pictures/` and its file's stem; that of a later step follows it."""

    @abstractmethod
    def show_results(self, folder: Path, metrics: Mapping, step: int, write_report: ReportWriter | None) -> None:
        """Show what a finished run leaves.

        Args:
            folder: of the run.
            metrics: the contents of metrics.json.
            step: the last training step.
            write_report: writes the report of a folder of runs; None: no report is shown.
        """

    def show_pictures(self, folder: Path, step: int) -> None:
        """Show the pictures that lie in the folder of a finished run."""
        for name in PICTURES:
            if (folder / name).is_file():
                self.show_picture(folder / name, step)


def dashboards(loggers: Iterable[Logger]) -> list[Dashboard]:
    """List the dashboards among a trainer's loggers."""
    return [logger for logger in loggers if isinstance(logger, Dashboard)]


def scalars(metrics: Mapping, name: str = "test") -> dict[str, float]:
    """Flatten metrics.json to numbers by path, without intervals and values of single classes.

    >>> scalars({"fsr": {"gradcam": 1.0, "lrp": None}, "ci95": {"fsr": [0, 1]}, "steps": 6, "model": "resnet_tiny"})
    {'test/fsr/gradcam': 1.0, 'test/steps': 6.0}
    """
    found = {}
    for key, value in metrics.items():
        if key in NOT_SHOWN or key.endswith(BY_CLASS):
            continue
        if isinstance(value, Mapping):
            found |= scalars(value, f"{name}/{key}")
        elif isinstance(value, int | float):
            found[f"{name}/{key}"] = float(value)
    return found


def require(package: str) -> None:
    """Raise an AdvfoolError where an optional package is not installed."""
    if find_spec(package) is None:
        raise AdvfoolError(f"logger={package} needs the package {package}: pip install 'advfool[{package}]'.")
