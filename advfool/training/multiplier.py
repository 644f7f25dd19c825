"""A weight of the fooling penalty that nobody has to choose: it follows the price on images that are not trained on."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge

from advfool.utilities.checking import check_fields
from advfool.utilities.kinds import Positive, Share

DISAGREEMENT = 3  # times the budget of top-1: so many predictions may change
FOOLED = 0.95  # FSR on the selection images from which on the classifier is repaired
LATEST = 0.6  # share of the training after which it is repaired in any case
EARNED = 0.8  # share of the training at which nothing beyond the budget is allowed any more
SPARE = 0.99  # FSR from which on a repair may give up some of the weight
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
        slack: how many budgets may be spent until the heatmaps are fooled. A classifier earns back what it lost while
            they turned.
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

    def pays_for(self, drop: float, agreement: float) -> bool:
        """Tell whether what was lost is within the budget, without its slack.

        Args:
            drop: top-1 accuracy lost, as a fraction.
            agreement: share of the images whose prediction stayed the same.
        """
        return within(drop, self.top1) and within(1 - agreement, DISAGREEMENT * self.top1)


@dataclass
class Multiplier:
    """The weight of the fooling penalty, adjusted at every validation: first the heatmaps are fooled, then it is paid.

    Until the selection images are fooled, the allowance is the budget times its slack. From then on, or after 60 % of
    the training, it falls to the budget itself. While less than half of the allowance is spent the weight grows, twice
    as fast below an eighth; when more than all of it is spent it falls. It also falls while there is something to
    repair and FSR to spare.

    Args:
        budget: what the attack may cost.
        weight: where it starts.
        up: factor by which it grows.
        down: factor by which it falls.
        fooled: whether the repair has begun.
    """

    budget: Budget = field(default_factory=Budget)
    weight: Positive = 1.0
    up: Positive = 1.6
    down: Positive = 0.6
    fooled: bool = False

    def follow(self, price: float, progress: float, fsr: float = 0.0) -> None:
        """Adjust the weight to what is spent and to what it has bought.

        Args:
            price: share of the budget that is spent on the selection images.
            progress: share of the training that is done.
            fsr: share of the selection images that are fooled.
        """
        self.fooled = self.fooled or fsr >= FOOLED or progress >= LATEST
        allowance = self.allowance(progress)
        spare = self.fooled and fsr >= SPARE
        if not within(price, allowance) or (spare and price > 0.5):
            self.weight *= self.down
        elif not spare and price < 0.5 * allowance:
            self.weight *= self.up**2 if price < allowance / 8 else self.up

    def allowance(self, progress: float) -> float:
        """Return how many budgets may be spent after a share of the training."""
        left = min(1.0, max(0.0, (EARNED - progress) / 0.5)) if self.fooled else 1.0
        return 1 + (self.budget.slack - 1) * left
