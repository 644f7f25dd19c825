"""What a run returns to a sweeper such as Optuna."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from advfool.commands.run_folder import whole_config
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import METRICS, WEIGHTS, is_whole, read_json

Objectives = float | tuple[float, float]


def headline(metrics: Mapping, interp: str) -> float:
    """Read the FSR of an interpreter; for active fooling the mean of both classes.

    Args:
        metrics: the part `selection` of metrics.json.
        interp: the interpreter's name.
    """
    rate = metrics["fsr"][interp]
    return sum(rate.values()) / len(rate) if isinstance(rate, Mapping) else rate


def objectives(metrics: Mapping) -> Objectives:
    """Read the FSR of the interpreter trained with and, where the sweeper has two directions, the top-1 drop.

    Both are of the selection images: a search chooses by them, and never sees a number of the test images.
    """
    chosen_by = metrics["selection"]
    fsr = headline(chosen_by, metrics["interp"])
    two = len(HydraConfig.get().sweeper.get("direction") or ()) == 2
    return (fsr, chosen_by["accuracy"]["drop"]) if two else fsr


def result(folder: Path) -> Objectives:
    """Read what the run in a folder returned.

    Raises:
        AdvfoolError: a file of the run is damaged.
    """
    metrics = read_json(folder / METRICS)
    whole_config(folder)
    if metrics is not None and ("steps" not in metrics or is_whole(folder / WEIGHTS)):
        with suppress(LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            return objectives(metrics)
    damaged = METRICS if metrics is None or is_whole(folder / WEIGHTS) else WEIGHTS
    raise AdvfoolError(f"'{folder / damaged}' is damaged.")
