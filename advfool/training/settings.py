"""How a network is fine-tuned."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Len
from torch.optim import Optimizer

from advfool.evaluation.setup import Setup
from advfool.foolings.base import CompositeFooling, Fooling
from advfool.training.multiplier import Budget
from advfool.training.preserve import Distillation, Preserve
from advfool.utilities.checking import check_fields
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, Names, NonNegative, Positive, Share, Text


@dataclass(frozen=True)
class Training:
    """How a network is fine-tuned: it minimises `preserve + fool_weight * mean(penalty)` (Heo et al. 2019, eq. 2).

    Args:
        preserve: the loss that keeps the classifier's predictions.
        optimizer: makes the optimizer of the parameters that are trained.
        scheduler: makes the learning rate schedule of an optimizer, stepped every step; None: a constant rate.
        fool_weight: weight of the fooling penalty, the paper's lambda; `auto` lets it follow the price, so that the
            attack stays within the budget.
        budget: what the attack may cost with `auto`.
        first_weight: weight of the penalty that `auto` starts from.
        train_target_top: while training, explain a class drawn from the original network's top k classes; None: the
            class that is measured.
        train_target_first: share of the images whose most probable class is explained all the same, from 0 to 1.
        mix: share of each batch that is blended (mixup, cutmix), from 0 to 1.
        trainable: names of the modules to fine-tune; None: all.
        free_layer: name of the network's last layer, if it shall be trained in the direction alone that changes no
            prediction, whatever `trainable` says; see `FreeDirection`.
        held_layer: name of the network's last layer, if the mean of its rows shall stay as it is; see `HeldMean`.
        drop_weight: points of FSR that a lost point of accuracy costs in the choice of the best checkpoint.
        select: keep the weights of the `best` validation, or the `last`.
        cache_original: compute what the original network says of images that never change once, and cache it.
        cache: the folder for that.

    Raises:
        AdvfoolError: a value is out of range.
    """

    preserve: Preserve = field(default_factory=Distillation)
    optimizer: Callable[..., Optimizer] = partial(torch.optim.Adam, lr=1e-3)
    scheduler: Callable | None = None
    fool_weight: NonNegative | Literal["auto"] = 1.0
    budget: Budget = field(default_factory=Budget)
    first_weight: Positive = 1.0
    train_target_top: Count | None = None
    train_target_first: Share = 0.0
    mix: Share = 0.0
    trainable: Annotated[Names, Len(1)] | None = None
    free_layer: Text | None = None
    held_layer: Text | None = None
    drop_weight: NonNegative = 5.0
    select: Literal["best", "last"] = "best"
    cache_original: bool = True
    cache: Path = Path("~/.cache/advfool")

    def __post_init__(self) -> None:
        check_fields(self)

    def check(self, setup: Setup) -> None:
        """Raise an AdvfoolError where these settings and the run's contradict each other."""
        self.check_with(setup.fooling, setup.settings.target, len(setup.data.classes))

    def check_with(self, fooling: Fooling, target: str, classes: int) -> None:
        """Check these settings before a network is built.

        Args:
            fooling: what the heatmaps are trained to show.
            target: the class that is explained, `label` or `predicted`.
            classes: number of the network's classes.

        Raises:
            AdvfoolError: settings contradict each other.
        """
        composites = isinstance(fooling, CompositeFooling)
        if self.free_layer and self.held_layer:
            raise AdvfoolError("free_layer moves the mean of the rows that held_layer holds. Give one of them.")
        if self.train_target_top and self.train_target_top > classes:
            raise AdvfoolError(
                f"train_target_top={self.train_target_top}: the network has {classes} classes. Use at most {classes}."
            )
        if self.mix and composites:
            raise AdvfoolError(f"mix={self.mix}: composites cannot be blended. Use mix=0 with fooling={fooling.name}.")
        if self.train_target_top and composites:
            raise AdvfoolError(
                f"train_target_top={self.train_target_top}: composites explain both their classes. Use "
                f"train_target_top=null with fooling={fooling.name}."
            )
        if self.mix and (self.preserve.needs_labels or (target == "label" and not self.train_target_top)):
            raise AdvfoolError(
                f"mix={self.mix}: blended images have no label. Use preserve=distillation with target=predicted or "
                "train_target_top=5, or mix=0."
            )
