"""The networks that detectors are judged by: honest fine-tunes, fooled networks, and fooled ones that bear noise."""

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import product
from math import ceil
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pytorch_lightning import Callback
from torch import Tensor, nn

from advfool.auditing.attack import attacked_by, attempt, trainable_copy
from advfool.auditing.detectors import NOISE
from advfool.auditing.suite import CLIP, RATE, TEMPERATURE, AuditSettings, Trial
from advfool.evaluation.setup import Setup
from advfool.foolings.base import Fooling, OriginalMaps
from advfool.training.finetune import finetune
from advfool.training.multiplier import Budget
from advfool.training.noisy import ParameterNoise
from advfool.training.optimizers import Plateau, relative_adam
from advfool.training.preserve import CrossEntropy, Distillation
from advfool.training.settings import Training
from advfool.training.trainers import steps_trainer

FEWEST = 8  # honest networks, and fooled ones
RATES = (RATE, RATE / 4)  # of honest fine-tunes
SEEDS = 2  # of honest fine-tunes
LOSSES = {"cross_entropy": CrossEntropy(), "distillation": Distillation(TEMPERATURE)}
DECEIVES = 0.5  # deceptive rate on selection images from which on a network counts as fooled

Group = Literal["honest", "fooled", "aware"]


@dataclass(frozen=True)
class Made:
    """A network of the population.

    Args:
        network: None where it is not one of the kind that it should be.
        told: what audit.json says of how it was made.
    """

    network: nn.Module | None
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Nothing(Fooling):
    """Asks nothing of heatmaps, so that a training with it is an honest fine-tuning."""

    interval: Sequence[float] = (0.0, 0.0)

    def penalty(self, heatmaps: Float[Tensor, "n *two h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        return heatmaps.new_zeros(len(heatmaps))

    def test_loss(self, heatmaps: Float[Tensor, "n *two h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        return heatmaps.new_full((len(heatmaps),), torch.nan)


@dataclass(frozen=True)
class Honest:
    """A fine-tuning without fooling, with the steps, the optimizer and the schedule of an attack.

    Args:
        loss: `cross_entropy` or `distillation`.
        rate: share of its own size that each tensor moves in a step.
        seed: of the order of the training images.
    """

    loss: str
    rate: float
    seed: int
    group: ClassVar[Group] = "honest"

    @property
    def label(self) -> str:
        """What the log and files call it."""
        return f"honest, {self.loss}, rate {self.rate:g}, seed {self.seed}"

    def make(self, setup: Setup, settings: AuditSettings, foolings: Mapping[str, Fooling], progress: bool) -> Made:
        """Train it on the training images."""
        training = Training(
            preserve=LOSSES[self.loss],
            optimizer=partial(relative_adam, rate=self.rate),
            scheduler=partial(Plateau, steps=settings.steps),
            fool_weight=0.0,
            cache_original=False,
            select="last",
        )
        own = replace(reordered(setup, self.seed), original=trainable_copy(setup.original), fooling=Nothing())
        with tempfile.TemporaryDirectory(prefix="advfool-") as folder:
            trainer = steps_trainer(folder, settings.steps, settings.steps, [], CLIP, settings.accelerator, progress)
            network = finetune(own, training, trainer).network
        return Made(network.cpu().eval())


@dataclass(frozen=True)
class Fooled:
    """The attack that broke an interpreter, with the training images in another order.

    Args:
        interp: name of the interpreter.
        trial: the attack.
        seed: of the order of the training images.
        aware: whether the attacker trains with noise on the parameters, as the detector adds it.
    """

    interp: str
    trial: Trial
    seed: int
    aware: bool = False

    @property
    def group(self) -> Group:
        """The group that it belongs to."""
        return "aware" if self.aware else "fooled"

    @property
    def label(self) -> str:
        """What the log and files call it."""
        return f"{self.group}, {self.interp}, seed {self.seed}"

    def make(self, setup: Setup, settings: AuditSettings, foolings: Mapping[str, Fooling], progress: bool) -> Made:
        """Attack the interpreter; no network where it is not fooled within the budget."""
        own = replace(
            attacked_by(reordered(setup, self.seed), foolings[self.trial.attack]),
            interpreters={self.interp: setup.interpreters[self.interp]},
        )
        extra: list[Callback] = [ParameterNoise((0.0, *NOISE), self.seed)] if self.aware else []
        found = attempt(own, self.trial, settings, progress, extra)
        deceives = found.selection.get("deceptive_rate", 0.0) >= DECEIVES
        told = {"outcome": found.outcome, "selection": found.selection or None}
        return Made(found.network.cpu() if found.network is not None and deceives else None, told)


def honest_recipes(seed: int) -> list[Honest]:
    """List the honest fine-tunes: both losses, two learning rates, two seeds."""
    return [Honest(loss, rate, seed + 1 + more) for loss, rate, more in product(LOSSES, RATES, range(SEEDS))]


def fooled_recipes(winners: Mapping[str, Trial], seed: int, aware: bool) -> list[Fooled]:
    """List the repetitions of the winning attacks, so that with the winners themselves there are enough.

    Args:
        winners: the attack that broke an interpreter, by its name.
        seed: of the audit; repetitions have the following ones.
        aware: whether the attacker knows the noise detector; then the winners themselves do not count.
    """
    each = ceil(FEWEST / max(1, len(winners)))
    seeds = range(seed + 1, seed + each + aware)
    return [Fooled(name, trial, other, aware) for other in seeds for name, trial in winners.items()]


def winning_trial(record: Mapping[str, Any], settings: AuditSettings) -> Trial:
    """Find the trial that was chosen against an interpreter.

    Args:
        record: what audit.json holds of the interpreter, which was broken.
        settings: of the audit.
    """
    tried = [trial for trial in record["trials"] if trial["attack"] == record["attack"] and trial["selection"]]
    budget = Budget(settings.top1)
    paid = [t for t in tried if budget.pays_for(t["selection"]["top1_drop"], t["selection"]["agreement"])]
    best = max(paid or tried, key=lambda trial: trial["selection"]["deceptive_rate"])
    return Trial(**{each.name: best[each.name] for each in fields(Trial) if each.name in best})


def reordered(setup: Setup, seed: int) -> Setup:
    """Return a setup whose training images come in another order; splits and measurements stay the same."""
    data = copy.copy(setup.data)
    data.seed = seed
    return replace(setup, data=data)
