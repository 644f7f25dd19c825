"""The attacks of AM-1: what is tried, in which order, and with what steps; no name of a network or interpreter."""

from dataclasses import dataclass
from itertools import product
from typing import Annotated, Literal, get_args

from annotated_types import Len

from advfool.utilities.checking import check_fields
from advfool.utilities.kinds import Count, Positive, Seed, Share, Text

NAME = "AM-1"
FOOLINGS = ("location", "center_mass", "topk")
RATE = 0.01  # share of its own size that each tensor moves in a step
SLACKS = (1.0, 4.0)  # budgets that may be spent in the first half: strict first; a classifier that recovers needs more
STEPS = 600
TEMPERATURE = 4.0
TOP = 2  # classes of each image whose maps are trained, so that the lie holds for other predictions, too
CLIP = 1.0  # norm of a step's gradient
EVERY = 30  # steps between two looks at the selection images
CURVE = (0.25, 0.5, 1, 2, 4)  # budgets of the price curve, as multiples of the budget of the audit


@dataclass(frozen=True)
class Trial:
    """One attack.

    Args:
        attack: name of the fooling.
        slack: budgets that the attack may spend in the first half of its training.
        steps: of the training, unless it is stopped early.
    """

    attack: str
    slack: float
    steps: int


@dataclass(frozen=True)
class AuditSettings:
    """How an interpreter is audited.

    Args:
        top1: top-1 accuracy that an attack may cost on the selection images, as a fraction.
        trials: at most so many attacks on each interpreter.
        steps: training steps of an attack.
        batch_size: images of a step.
        selection_images: an attack is judged by the deceptive rate of so many selection images.
        enough: an attack with this deceptive rate within the budget ends the search.
        seed: of everything random.
        attacks: names of the foolings.
    """

    top1: Share = 0.01
    trials: Count = 6
    steps: Count = STEPS
    batch_size: Count = 32
    selection_images: Count = 128
    enough: Positive = 0.9
    seed: Seed = 0
    attacks: Annotated[tuple[Text, ...], Len(1)] = FOOLINGS

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def budgets(self) -> list[float]:
        """The budgets of the price curve, in top-1 accuracy."""
        return [self.top1 * part for part in CURVE]

    def planned(self) -> list[Trial]:
        """List the trials: the first attack in both ways, then the others."""
        first, *others = self.attacks
        order = [*product([first], SLACKS), *((attack, slack) for slack in SLACKS for attack in others)]
        return [Trial(attack, slack, self.steps) for attack, slack in order][: self.trials]


OfMaps = Literal["aggregate", "smoothgrad", "softplus"]  # defences that are interpreters, and are attacked themselves
OfNetworks = Literal["finetune", "batch_norm", "noise"]  # defences that are steps, taken after an attack
Defence = OfMaps | OfNetworks
OF_MAPS, OF_NETWORKS = get_args(OfMaps), get_args(OfNetworks)
