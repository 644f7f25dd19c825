"""What a run returns to a sweeper such as Optuna."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from advfool.commands.keys import ChosenBy
from advfool.commands.run_folder import whole_config
from advfool.evaluation.setup import JOINT
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import METRICS, WEIGHTS, is_whole, read_json

Objectives = float | tuple[float, float]
log = logging.getLogger(__name__)


def check_objective(objective: str, images: int) -> None:
    """Raise an AdvfoolError where a run does not measure what it shall return.

    Args:
        objective: the key of the configuration.
        images: those on which it is measured whether maps are faithful.
    """
    if objective == "deceptive_rate" and not images:
        raise AdvfoolError(
            "objective=deceptive_rate: expected faithfulness.images of at least 1, got 0, with which there is no "
            "deceptive rate. Use faithfulness.images=128, or objective=fsr."
        )


def headline(metrics: Mapping, interp: str, objective: ChosenBy = "fsr") -> float:
    """Read a rate of an interpreter; for active fooling the mean of both classes.

    Args:
        metrics: the part `selection` of metrics.json.
        interp: the interpreter's name.
        objective: `fsr` or `deceptive_rate`.

    Returns:
        the rate, as a fraction of 1; NaN, which is what a failed run returns, where no image has an honest explanation
        to lose. Where this is so of one of two classes, the rate of the other one.
    """
    names = [interp] if interp in metrics[objective] else interp.split(JOINT)  # of those attacked at once the mean
    found = [metrics[objective][name] for name in names]
    rates = [each for rate in found for each in (rate.values() if isinstance(rate, Mapping) else [rate])]
    known = [each for each in rates if each is not None]
    if not known:
        log.warning("objective=%s: no selection image has a faithful map to lose, so the run returns NaN.", objective)
        return float("nan")
    if len(known) < len(rates):
        log.warning("objective=%s: no selection image of one class has a faithful map; the other counts.", objective)
    return sum(known) / len(known)


def objectives(metrics: Mapping, objective: ChosenBy = "fsr") -> Objectives:
    """Read the rate of the interpreter trained with and, where the sweeper has two directions, the top-1 drop.

    Both are of the selection images: a search chooses by them, and never sees a number of the test images.

    Args:
        metrics: the contents of metrics.json.
        objective: which rate, `fsr` or `deceptive_rate`.
    """
    chosen_by = metrics["selection"]
    rate = headline(chosen_by, metrics["interp"], objective)
    two = len(HydraConfig.get().sweeper.get("direction") or ()) == 2
    return (rate, chosen_by["accuracy"]["drop"]) if two else rate


def result(folder: Path, cfg: DictConfig) -> Objectives:
    """Read what the run in a folder returned.

    Args:
        folder: of the run.
        cfg: the configuration that asks for it, whose `objective` may be another one than the run's.

    Raises:
        AdvfoolError: a file of the run is damaged.
    """
    metrics = read_json(folder / METRICS)
    whole_config(folder)
    if metrics is not None and ("steps" not in metrics or is_whole(folder / WEIGHTS)):
        with suppress(LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            return objectives(metrics, cfg.objective)
    damaged = METRICS if metrics is None or is_whole(folder / WEIGHTS) else WEIGHTS
    raise AdvfoolError(f"'{folder / damaged}' is damaged.")
