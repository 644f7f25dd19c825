"""One attack of an audit: a fine-tuning whose price is read off the selection images."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from torch import Tensor, nn

from advfool.auditing.suite import (
    CLIP,
    FIRST,
    GENTLE,
    LEAK,
    MIX,
    RATE,
    SLOW,
    AuditSettings,
    Trial,
    explained_top,
    temperature,
)
from advfool.auditing.verdicts import FAILED
from advfool.auditing.watch import State, Visit, Watch
from advfool.evaluation.assembly import with_composites
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.paired import PAIR
from advfool.evaluation.selection import compared_on_selection
from advfool.evaluation.setup import Setup
from advfool.foolings.base import Fooling
from advfool.interpreters.leaking import with_training_leak
from advfool.metrics.functional import is_fooled
from advfool.training.finetune import finetune
from advfool.training.multiplier import Budget
from advfool.training.optimizers import Plateau, relative_adam
from advfool.training.preserve import Distillation
from advfool.training.settings import Training
from advfool.training.trainers import steps_trainer
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import copied


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


def attempt(
    setup: Setup,
    trial: Trial,
    settings: AuditSettings,
    progress: bool,
    extra: Sequence[Callback] = (),
    rival: float = 0.0,
) -> Attempt:
    """Attack the first interpreter of a setup.

    Args:
        setup: the data, the network, the interpreter and the trial's fooling.
        trial: what is tried.
        settings: of the audit.
        progress: whether a progress bar is shown.
        extra: further callbacks of the training.
        rival: the highest deceptive rate of an earlier attack within the budget.
    """
    started = time.perf_counter()
    steps = trial.validations * trial.every  # the last validation follows the last step
    classes, swaps = len(setup.data.classes), setup.composites is not None
    training = Training(
        preserve=Distillation(temperature(classes), trial.offset, name="distillation"),
        optimizer=partial(relative_adam, rate=SLOW if trial.free_layer else RATE),
        scheduler=partial(Plateau, steps=steps),
        fool_weight="auto",
        budget=Budget(settings.top1, trial.slack),
        first_weight=GENTLE if trial.free_layer else 1.0,
        free_layer=trial.free_layer,
        held_layer=trial.held_layer,
        train_target_top=None if swaps else explained_top(classes),  # composites explain both their classes,
        train_target_first=FIRST,
        mix=0.0 if swaps else MIX,  # and are not blended
        cache_original=False,
        select="last",
    )
    interpreters = {name: with_training_leak(each, LEAK) for name, each in setup.interpreters.items()}
    watch = Watch(settings.budgets, settings.top1, setup.fooling.interval, rival)
    with tempfile.TemporaryDirectory(prefix="advfool-") as folder:
        callbacks = [watch, *extra]
        trainer = steps_trainer(folder, steps, trial.every, callbacks, CLIP, settings.accelerator, progress)
        # The training freezes the original network: every trial starts from a copy.
        own = replace(setup, original=trainable_copy(setup.original, trial.part), interpreters=interpreters)
        try:
            finetune(own, training, trainer)
        except (AdvfoolError, torch.OutOfMemoryError) as error:
            watch.outcome = f"{FAILED}: {str(error).splitlines()[0]}"
    best = {budget: state for budget, (_, state) in watch.best.items()}
    chosen = best.get(settings.top1)
    network = None if chosen is None else with_weights(setup.original, chosen)
    selection = {} if network is None else judged(setup, network, settings)
    if network is None:
        watch.outcome = f"{watch.outcome}; nothing is fooled within the budget"
    return Attempt(trial, network, selection, watch.visits, best, watch.outcome, time.perf_counter() - started)


def attacked_by(setup: Setup, fooling: Fooling) -> Setup:
    """Give a setup the fooling of an attack, with the composites of one that swaps the maps of two classes.

    Args:
        setup: of the audit.
        fooling: one that swaps takes the data's two classes.

    Raises:
        AdvfoolError: the data name no two classes, or one has too few images.
    """
    fooling, composites = with_composites(fooling, setup.data)
    return replace(setup, fooling=fooling, composites=composites)


def trainable_copy(network: nn.Module, part: float = 1.0) -> nn.Module:
    """Copy a network, with its last parameters to be trained; see `choose_trained`."""
    other = copied(network)
    choose_trained(other, part)
    return other


def choose_trained(network: nn.Module, part: float) -> None:
    """Let the last parameters of a network be trained, and the others not.

    Args:
        network: its parameters are taken in the order in which its modules were made.
        part: share of the values that is trained, at least.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
    wanted, taken = part * sum(parameter.numel() for parameter in parameters), 0
    for parameter in reversed(parameters):
        parameter.requires_grad_(taken < wanted)
        taken += parameter.numel()


def judged(setup: Setup, network: nn.Module, settings: AuditSettings) -> dict[str, float]:
    """Measure a manipulated network on the selection images, which everything is chosen by.

    Returns:
        `deceptive_rate` and `fsr`, of two classes that are swapped the smaller ones, `top1_drop` and `agreement`.
    """
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    trainer = measuring_trainer(settings.accelerator, False)
    own, results = compared_on_selection(setup, network, trainer, settings.selection_images)
    name, rows, images = own.trained.name, results.explained, results.images
    classes = [f"/{which}" for which in PAIR] if own.pair else [""]
    losses = [rows[f"test_loss/{name}/manipulated{which}"] for which in classes]
    return {
        "deceptive_rate": min(mean(rows[f"deceived/{name}{which}"]) for which in classes),
        "fsr": min(mean(is_fooled(loss, own.fooling.interval).float()) for loss in losses),
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
