"""What a run returns to a sweeper such as Optuna."""

from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import METRICS, read_json

Objectives = float | tuple[float, float]


def headline(metrics: Mapping, interp: str) -> float:
    """Read the FSR of an interpreter; for active fooling the mean of both classes."""
    rate = metrics["fsr"][interp]
    return sum(rate.values()) / len(rate) if isinstance(rate, Mapping) else rate


def objectives(metrics: Mapping) -> Objectives:
    """Read the FSR of the interpreter trained with and, where the sweeper has two directions, the top-1 drop."""
    fsr = headline(metrics, metrics["interp"])
    two = len(HydraConfig.get().sweeper.get("direction") or ()) == 2
    return (fsr, metrics["accuracy"]["drop"]["top1"]) if two else fsr


def result(folder: Path) -> Objectives:
    """Read what the run in a folder returned."""
    metrics = read_json(folder / METRICS)
    if metrics is None:
        raise AdvfoolError(f"'{folder / METRICS}' is damaged: remove it, and give the command again.")
    return objectives(metrics)
