"""One attack of an audit: a fine-tuning whose price is read off the selection images."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from advfool.auditing.suite import CLIP, EVERY, RATE, TEMPERATURE, TOP, AuditSettings, Trial
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.selection import compared_on_selection
from advfool.evaluation.setup import Setup
from advfool.metrics.functional import is_fooled
from advfool.training.finetune import finetune
from advfool.training.module import FoolingModule
from advfool.training.multiplier import Budget, within
from advfool.training.optimizers import plateau, relative_adam
from advfool.training.preserve import Distillation
from advfool.training.settings import Training
from advfool.training.trainers import steps_trainer
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import copied

State = dict[str, Tensor]
HOPELESS = 0.6  # share of the steps after which an attack that has fooled nothing is given up
NOTHING = 0.005  # FSR that counts as having fooled nothing


@dataclass(frozen=True)
class Visit:
    """What a validation of an attack found.

    Args:
        step: of the training.
        fsr: on the selection images.
        price: share of the budget that is spent on them.
        weight: of the fooling penalty, from there on.
    """

    step: int
    fsr: float
    price: float
    weight: float


@dataclass
class Attempt:
    """What an attack left.

    Args:
        trial: what was tried.
        network: the manipulated network, with the most fooled weights within the budget; None where it failed.
        selection: its numbers on the selection images.
        visits: what each validation found.
        best: by budget, the weights with the highest FSR that it pays for.
        outcome: how it ended.
        seconds: how long it took.
    """

    trial: Trial
    network: nn.Module | None
    selection: dict[str, float]
    visits: list[Visit]
    best: dict[float, State]
    outcome: str
    seconds: float


class Watch(Callback):
    """Keeps the best weights for every budget, and ends an attack that has won or cannot win.

    Args:
        budgets: of top-1, as fractions; the weights are kept for each.
        limit: the budget of the audit.
    """

    def __init__(self, budgets: list[float], limit: float) -> None:
        self.budgets, self.limit = budgets, limit
        self.visits: list[Visit] = []
        self.best: dict[float, tuple[float, State]] = {}
        self.outcome = "ran to its end"

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FoolingModule)
        if not trainer.training and trainer.global_step == 0:
            return
        seen = trainer.callback_metrics
        fsr = float(seen[f"val/fsr/{pl_module.interpreter.name}"])
        price, weight = float(seen["val/price"]), float(seen["val/fool_weight"])
        self.visits.append(Visit(trainer.global_step, fsr, price, weight))
        better = [
            budget
            for budget in self.budgets
            if within(price * self.limit, budget) and fsr > self.best.get(budget, (0.0, {}))[0]
        ]
        if better:  # one copy for all budgets
            state = {name: value.detach().cpu().clone() for name, value in pl_module.network.state_dict().items()}
            self.best |= dict.fromkeys(better, (fsr, state))
        last = [visit for visit in self.visits[-3:] if visit.fsr >= 0.99 and within(visit.price, 1)]
        if len(last) >= 2:
            self._stop(trainer, "stopped: all are fooled within the budget")
        elif trainer.global_step >= HOPELESS * trainer.max_steps and max(v.fsr for v in self.visits) < NOTHING:
            self._stop(trainer, "stopped: nothing is fooled")

    def _stop(self, trainer: Trainer, why: str) -> None:
        trainer.should_stop = True
        self.outcome = why


def attempt(
    setup: Setup, trial: Trial, settings: AuditSettings, progress: bool, extra: Sequence[Callback] = ()
) -> Attempt:
    """Attack the first interpreter of a setup.

    Args:
        setup: the data, the network, the interpreter and the trial's fooling.
        trial: what is tried.
        settings: of the audit.
        progress: whether a progress bar is shown.
        extra: further callbacks of the training.
    """
    started = time.perf_counter()
    training = Training(
        preserve=Distillation(TEMPERATURE, name="distillation"),
        optimizer=partial(relative_adam, rate=RATE),
        scheduler=partial(plateau, steps=trial.steps),
        fool_weight="auto",
        budget=Budget(settings.top1, trial.slack),
        train_target_top=min(TOP, len(setup.data.classes)),
        cache_original=False,
        select="last",
    )
    watch = Watch(settings.budgets, settings.top1)
    with tempfile.TemporaryDirectory(prefix="advfool-") as folder:
        trainer = steps_trainer(folder, trial.steps, min(EVERY, trial.steps), [watch, *extra], CLIP, "auto", progress)
        # The training freezes the original network: every trial starts from a copy, all of which is trained.
        own = replace(setup, original=copied(setup.original))
        for parameter in own.original.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        try:
            finetune(own, training, trainer)
        except (AdvfoolError, torch.OutOfMemoryError) as error:
            watch.outcome = f"failed: {str(error).splitlines()[0]}"
    best = {budget: state for budget, (_, state) in watch.best.items()}
    chosen = best.get(settings.top1)
    network = None if chosen is None else with_weights(setup.original, chosen)
    selection = {} if network is None else judged(setup, network, settings)
    if network is None:
        watch.outcome = f"{watch.outcome}; nothing is fooled within the budget"
    return Attempt(trial, network, selection, watch.visits, best, watch.outcome, time.perf_counter() - started)


def judged(setup: Setup, network: nn.Module, settings: AuditSettings) -> dict[str, float]:
    """Measure a manipulated network on the selection images, which everything is chosen by.

    Returns:
        `deceptive_rate`, `fsr`, `top1_drop` and `agreement`.
    """
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    own, results = compared_on_selection(setup, network, measuring_trainer("auto", False), settings.selection_images)
    name, rows, images = own.trained.name, results.explained, results.images
    return {
        "deceptive_rate": mean(rows[f"deceived/{name}"]),
        "fsr": mean(is_fooled(rows[f"test_loss/{name}/manipulated"], own.fooling.interval).float()),
        "top1_drop": mean(images["top1/original"]) - mean(images["top1/manipulated"]),
        "agreement": mean(images["agreement"]),
    }


def mean(values: Tensor) -> float:
    """Average the values that are not NaN; 0 where there is none."""
    found = values.double().nanmean().item()
    return 0.0 if found != found else found


def with_weights(network: nn.Module, state: State) -> nn.Module:
    """Copy a network and give it other weights."""
    other = copied(network)
    other.load_state_dict(state)
    return other.eval()
