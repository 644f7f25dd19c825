"""Build what a run is made of once, on next to nothing, so that what cannot work fails before long work."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from omegaconf import DictConfig
from torch import nn

from advfool.interpreters.base import Interpreter
from advfool.utilities.config import build, plain
from advfool.utilities.errors import AdvfoolError, first_line

STEPS = 2  # that optimizer and schedule are tried for
SHAPES = ((1,), (2, 2))  # of the parameters that they are tried on: a bias, and weights
STARTED_BY = ("LOCAL_RANK", "SLURM_PROCID")  # environment variables of a process among several


def try_optimizer(cfg: DictConfig) -> None:
    """Take steps on a few numbers with the optimizer and the schedule of a training.

    Args:
        cfg: the configuration of a training.

    Raises:
        AdvfoolError: they cannot be built, or need what a training does not give them.
    """
    device = "cuda" if torch.cuda.is_available() and cfg.trainer.get("accelerator") != "cpu" else "cpu"
    numbers = [nn.Parameter(torch.ones(shape, device=device)) for shape in SHAPES]

    def loss() -> torch.Tensor:
        for number in numbers:
            number.grad = torch.ones_like(number)
        return torch.zeros((), device=device)

    with _about("optimizer", cfg.optimizer):
        optimizer = build(cfg.optimizer)(numbers)
    schedule = None
    if cfg.scheduler:
        with _about("scheduler", cfg.scheduler):
            schedule = build(cfg.scheduler)(optimizer)
    for _ in range(min(STEPS, cfg.trainer.get("max_steps") or STEPS)):
        with _about("optimizer", cfg.optimizer):
            optimizer.step(loss)
        if schedule is not None:
            with _about("scheduler", cfg.scheduler):
                schedule.step()


def try_trainer(cfg: DictConfig) -> None:
    """Build the callbacks of a training and Lightning's trainer.

    Args:
        cfg: the configuration, completed by what was found.

    Raises:
        AdvfoolError: one cannot be built.
    """
    callbacks = []
    for name, node in (cfg.get("callbacks") or {}).items():
        if node:
            with _about(f"callbacks.{name}", node):
                callbacks.append(build(node))
    if not any(name in os.environ for name in STARTED_BY):
        with _about("trainer", cfg.trainer):
            build(cfg.trainer, callbacks=callbacks, logger=False)


def built_interpreters(cfg: DictConfig) -> dict[str, Interpreter]:
    """Build the interpreter to train with, where there is one, and then those to evaluate with, by name.

    Args:
        cfg: the configuration, completed by what was found.

    Raises:
        AdvfoolError: one cannot be built, or not be trained with.
    """
    found: dict[str, Interpreter] = {}
    if cfg.get("interp"):
        trained: Interpreter = build(cfg.interp)
        if not trained.name:
            raise AdvfoolError("The interpreter to train with has no name: give it one, interp.name=...")
        if "drop_weight" in cfg:  # a training's
            trained.for_training()
        found[trained.name] = trained
    for name, node in (cfg.get("others") or {}).items():
        with _about(f"also: {name}", node):
            if name in found:
                raise AdvfoolError("it is attacked already. Expected different interpreters.")
            found[str(name)] = replace(build(node), name=str(name))
            if "drop_weight" in cfg:
                found[str(name)].for_training()
    for name, node in (cfg.interpreters or {}).items():
        if name not in found:
            with _about(f"evaluate_with: {name}", node):
                found[str(name)] = replace(build(node), name=str(name))
    return found


@contextmanager
def _about(key: str, node: DictConfig) -> Iterator[None]:
    """Turn errors of any kind into expected ones that name a key, and the settings below it."""
    try:
        yield
    except AdvfoolError as error:
        raise AdvfoolError(f"{key}: {error}") from None
    except Exception as error:  # other libraries' constructors may raise anything
        raise AdvfoolError(
            f"{key} does not work as it is set: {first_line(error)} Its settings: {_settings(plain(node))}."
        ) from error


def _settings(node: Mapping) -> str:
    return ", ".join(f"{key}={value}" for key, value in node.items() if key != "_partial_")
