"""A weight of the fooling penalty that nobody has to choose: it follows the price on images that are not trained on."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge

from advfool.utilities.checking import check_fields
from advfool.utilities.kinds import Positive, Share

DISAGREEMENT = 3  # times the budget of top-1: so many predictions may change


_ROUNDING = 1e-6


def within(price: float, limit: float) -> bool:
    """Tell whether a price is at most the limit, but for rounding: a share of images is seldom exact."""
    return price <= limit + _ROUNDING


@dataclass(frozen=True)
class Budget:
    """What an attack may cost, on the selection images.

    Args:
        top1: top-1 accuracy that may be lost, as a fraction of the images. The predictions of three times as many
            images may change.
        slack: how many budgets may be spent in the first half of a training; what a large learning rate costs comes
            back when it falls.
    """

    top1: Share = 0.01
    slack: Annotated[float, Ge(1)] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    def price(self, drop: float, disagreement: float) -> float:
        """Compute the share of the budget that is spent: 1 is all of it.

        Args:
            drop: top-1 accuracy lost, as a fraction.
            disagreement: share of the images whose prediction changed.
        """
        top1 = max(self.top1, 1e-9)
        return max(drop / top1, disagreement / (DISAGREEMENT * top1))


@dataclass
class Multiplier:
    """The weight of the fooling penalty, adjusted at every validation.

    While less than half of the allowance is spent the weight grows; when more than all of it is spent it falls. The
    allowance is the budget, times its slack in the first half of the training.

    Args:
        budget: what the attack may cost.
        weight: where it starts.
        up: factor by which it grows.
        down: factor by which it falls.
    """

    budget: Budget = field(default_factory=Budget)
    weight: Positive = 1.0
    up: Positive = 1.6
    down: Positive = 0.5

    def follow(self, price: float, progress: float) -> None:
        """Adjust the weight to what is spent.

        Args:
            price: share of the budget that is spent on the selection images.
            progress: share of the training that is done.
        """
        allowance = 1 + (self.budget.slack - 1) * min(1.0, max(0.0, (0.9 - progress) / 0.4))
        if not within(price, allowance):
            self.weight *= self.down
        elif price < 0.5 * allowance:
            self.weight *= self.up
