"""The attacks of AM-1: what is tried, in which order, and with what steps; no name of a network or interpreter."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from math import ceil, log2
from typing import Annotated, Literal, get_args

from annotated_types import Len

from advfool.utilities.checking import check_fields
from advfool.utilities.kinds import Accelerator, Count, Positive, Seed, Share, Text

NAME = "AM-1"
FOOLINGS = ("location", "topk", "center_mass", "target", "another_class", "active")
APART = ("another_class", "active")  # ask for other maps of other classes: what moves those of all alike is no help
RATE = 0.01  # share of its own size that each tensor moves in a step,
SLOW = 0.0025  # and beside a layer that moves in the free direction, so that the others need not move as far
GENTLE = 0.1  # weight of the penalty at the start of such a trial; 1 in the others
SLACK = 8.0  # budgets that the others may spend until the heatmaps are fooled
LEAK = 0.01  # slope of the maps below zero in training: enough for a gradient
STEPS = 600  # at most,
PASSES = 32  # and at most so many times through the training images
TEMPERATURE = 4.0  # of the distillation, at least
MANY = 1000  # parameters for each training image, from which on only the
TAIL = 0.8  # last ones are trained, so many: few images say little about the others
FIRST = 0.5  # share of the images whose first class is explained in training; of the others, one of the most probable
MIX = 0.5  # share of a batch that is blended: the predictions stay the same on more than the training images
CLIP = 1.0  # norm of a step's gradient
EVERY = 30  # steps between two validations, about
LONG = 2  # times fewer trials of a network of which a part alone is trained: each of them takes long
CURVE = (0.25, 0.5, 1, 2, 4)  # budgets of the price curve, as multiples of the budget of the audit


def temperature(classes: int) -> float:
    """Say how much the distillation keeps of improbable classes: of many classes all logits count.

    >>> [temperature(classes) for classes in (2, 10, 100, 1000)]
    [4.0, 4.0, 10.0, 20.0]
    """
    return max(TEMPERATURE, 2.0 * round(classes ** (1 / 3)))


def explained_top(classes: int) -> int:
    """Say of how many of an image's most probable classes the maps are trained, so that the lie holds for others, too.

    >>> [explained_top(classes) for classes in (2, 10, 100, 1000)]
    [2, 2, 3, 5]
    """
    return min(classes, max(2, round(log2(classes) / 2)))


def way(free_layer: str | None, offset: float) -> str:
    """Say in words what the classifier of a trial may do.

    >>> way("fc", 0.0), way(None, 1.0), way(None, 0.0)
    ('free direction', 'mean logit kept', 'mean logit free')
    """
    return "free direction" if free_layer else "mean logit kept" if offset else "mean logit free"


@dataclass(frozen=True)
class Trial:
    """One attack.

    Args:
        attack: name of the fooling.
        slack: budgets that the attack may spend until the heatmaps are fooled.
        steps: of the training, at most, unless it is stopped early.
        offset: weight of the change of the mean logit: with it, maps do not just change their sign; without it, some
            networks turn farther.
        part: share of the parameters that is trained, the last ones.
        free_layer: name of the layer that moves in the direction alone that changes no prediction; None: there is none.
        held_layer: name of the layer whose rows keep their mean, by an attacker who expects it to be centred.
    """

    attack: str
    slack: float
    steps: int
    offset: float = 0.0
    part: float = 1.0
    free_layer: str | None = None
    held_layer: str | None = None

    @property
    def way(self) -> str:
        """What the classifier may do, in words."""
        return way(self.free_layer, self.offset)

    @property
    def validations(self) -> int:
        """The number of validations; the last one follows the last step."""
        return max(1, round(self.steps / EVERY))

    @property
    def every(self) -> int:
        """Steps between two validations."""
        return self.steps // self.validations


@dataclass(frozen=True)
class AuditSettings:
    """How an interpreter is audited.

    Args:
        top1: top-1 accuracy that an attack may cost on the selection images, as a fraction.
        trials: at most so many attacks on each interpreter.
        steps: training steps of an attack, at most.
        batch_size: images of a step.
        selection_images: an attack is judged by the deceptive rate of so many selection images.
        enough: an attack with this deceptive rate within the budget ends the search.
        seed: of everything random.
        attacks: names of the foolings.
        accelerator: Lightning's word for the device.
    """

    top1: Share = 0.01
    trials: Count = 6
    steps: Count = STEPS
    batch_size: Count = 32
    selection_images: Count = 128
    enough: Positive = 0.9
    seed: Seed = 0
    attacks: Annotated[tuple[Text, ...], Len(1)] = FOOLINGS
    accelerator: Accelerator = "auto"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def budgets(self) -> list[float]:
        """The budgets of the price curve, in top-1 accuracy."""
        return [self.top1 * part for part in CURVE]

    def planned(
        self, images: int, parameters: int, free_layer: str | None = None, left_out: Collection[str] = ()
    ) -> list[Trial]:
        """List the trials: every attack in the first way that serves it, then every one in its next way.

        Args:
            images: that are trained on.
            parameters: of the network.
            free_layer: that can move without changing a prediction; None: there is none.
            left_out: names of attacks that mean nothing for this interpreter.
        """
        part = TAIL if parameters > MANY * images else 1.0
        steps = min(self.steps, max(1, PASSES * images // min(self.batch_size, images)))
        common = {"steps": steps, "part": part}
        free = partial(Trial, slack=1.0, free_layer=free_layer, **common)
        others = [partial(Trial, slack=SLACK, offset=1.0, **common), partial(Trial, slack=SLACK, **common)]
        attacks = [name for name in self.attacks if name not in left_out]
        ways = {name: others if free_layer is None or name in APART else [free, *others] for name in attacks}
        order = [ways[name][turn](name) for turn in range(3) for name in attacks if turn < len(ways[name])]
        return order[: self.trials if part == 1 else ceil(self.trials / LONG)]


OfMaps = Literal["aggregate", "smoothgrad", "softplus"]  # defences that are interpreters, and are attacked themselves
OfNetworks = Literal["finetune", "batch_norm", "noise", "centre"]  # defences that are steps, taken after an attack
Defence = OfMaps | OfNetworks
OF_MAPS, OF_NETWORKS = get_args(OfMaps), get_args(OfNetworks)
