"""Watches an attack: keeps the best weights for every budget, and ends what has won or cannot win."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from advfool.training.module import FoolingModule
from advfool.training.multiplier import within

log = logging.getLogger(__name__)

State = dict[str, Tensor]
HOPELESS = 0.5  # share of the steps after which an attack is given up that has
NOTHING = 0.01  # fooled no more images than are fooled without it, but for so many,
NEARER = 0.1  # and whose test loss has not come nearer to the interval by this part of the way;
BEHIND = 0.5  # or one that has fooled less than this part of what deceives in an earlier one within the budget
DEAR = 4.0  # budgets: a first validation that finds a higher price begins anew, with
SLOWER = 0.25  # times the rate
COLLAPSED = 0.9  # share of degenerate maps from which a training does not return
WON = 0.99  # FSR from which on all count as fooled
EQUAL = 0.005  # FSR that two visits may differ by and count as equally fooled
CHEAP = 0.5  # share of a budget up to which the price of equally fooled weights does not matter
TOLD = 5  # every so many validations the log says how far an attack is
VALIDATIONS = 4  # so often in a row all have to be fooled cheaply until an attack ends: the maps move on meanwhile


@dataclass(frozen=True)
class Visit:
    """What a validation of an attack found.

    Args:
        step: of the training.
        fsr: on the selection images.
        price: share of the budget that is spent on them.
        weight: of the fooling penalty, from there on.
        moved: how far the mean test loss has moved from that of the original maps.
    """

    step: int
    fsr: float
    price: float
    weight: float
    moved: float = 0.0


class Watch(Callback):
    """Keeps the best weights for every budget, and ends an attack that has won or cannot win.

    Args:
        budgets: of top-1, as fractions; the weights are kept for each.
        limit: the budget of the audit.
        interval: test losses of a fooled image.
        rival: the highest deceptive rate of an earlier attack within the budget.
    """

    def __init__(self, budgets: list[float], limit: float, interval: Sequence[float], rival: float = 0.0) -> None:
        self.budgets, self.limit, self.interval, self.rival = budgets, limit, interval, rival
        self.visits: list[Visit] = []
        self.best: dict[float, tuple[Visit, State]] = {}
        self.start: tuple[float, float] | None = None  # FSR and mean test loss of the original network
        self.loss = math.nan  # mean test loss now
        self.ranging = True  # whether the rate is still being looked for
        self.outcome = "ran to its end"
        self.began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FoolingModule)
        seen, name = trainer.callback_metrics, pl_module.interpreter.name
        fsr = float(seen[f"val/fsr/{name}"])
        self.loss = float(seen[f"val/test_loss/{name}"])
        if trainer.global_step == 0:
            self.start = self.start or (fsr, self.loss)
            self.began = time.monotonic()
            return
        price, weight = float(seen["val/price"]), float(seen["val/fool_weight"])
        moved = abs(self.loss - (self.start or (0.0, math.nan))[1])
        visit = Visit(trainer.global_step, fsr, price, weight, 0.0 if math.isnan(moved) else moved)
        self.visits.append(visit)
        self._tell(visit, trainer.max_steps)
        self._keep(visit, pl_module.network)
        if price > DEAR and self.ranging:
            self._restart(trainer, pl_module)
            return
        self.ranging = False
        if pl_module.multiplier is not None and pl_module.multiplier.fooled:
            for each in trainer.lr_scheduler_configs:
                each.scheduler.fall()  # type: ignore[union-attr]
        last = [visit for visit in self.visits[-VALIDATIONS:] if visit.fsr >= WON and within(visit.price, CHEAP)]
        if len(last) == VALIDATIONS:
            self._stop(trainer, "stopped: all are fooled within the budget")
        elif float(seen[f"val/degenerate/{name}"]) > COLLAPSED:
            self._stop(trainer, "stopped: most maps have become degenerate")
        elif trainer.global_step >= HOPELESS * trainer.max_steps:
            if self._hopeless():
                self._stop(trainer, "stopped: nothing is fooled")
            elif max(each.fsr for each in self.visits) < BEHIND * self.rival:
                self._stop(trainer, "stopped: an earlier attack is far ahead")

    def _tell(self, visit: Visit, steps: int) -> None:
        """Log every fifth validation."""
        if len(self.visits) % TOLD == 0:
            left = (time.monotonic() - self.began) * (steps - visit.step) / visit.step
            told = "    step %d of %d: %.0f %% fooled for %.1f budgets; at most %.0f s left of this trial"
            log.info(told, visit.step, steps, 100 * visit.fsr, visit.price, left)

    def _keep(self, visit: Visit, network: nn.Module) -> None:
        """Keep the weights for every budget that pays for them and has no better ones.

        Of equally fooled weights those are better whose maps have moved furthest, among the cheap ones; else the
        cheaper ones.
        """

        def rank(each: Visit, budget: float) -> tuple[float, float]:
            price = each.price * self.limit
            cheap = within(price, CHEAP * budget)
            return (1.0, each.moved) if cheap else (0.0, -price)

        def better(budget: float) -> bool:
            held = self.best.get(budget)
            if held is None:
                return visit.fsr > 0
            gain = visit.fsr - held[0].fsr
            return gain > EQUAL or (gain >= -EQUAL and rank(visit, budget) > rank(held[0], budget))

        paid = [each for each in self.budgets if within(visit.price * self.limit, each) and better(each)]
        if paid:  # one copy for all budgets
            state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
            self.best |= dict.fromkeys(paid, (visit, state))

    def _restart(self, trainer: Trainer, module: FoolingModule) -> None:
        """Go back to the original weights with a smaller rate: the steps alone have destroyed the classifier."""
        module.network.load_state_dict(module.original.state_dict())
        module.multiplier = module.first_multiplier()
        for optimizer in trainer.optimizers:
            optimizer.state.clear()
        for each in trainer.lr_scheduler_configs:
            each.scheduler.slow(SLOWER)  # type: ignore[union-attr]

    def _hopeless(self) -> bool:
        """Tell whether nothing has happened: neither are more images fooled than before, nor are they nearer to it."""
        fsr, loss = self.start or (0.0, math.nan)
        gained = max(visit.fsr for visit in self.visits) - fsr
        return gained < NOTHING and self._way_of(self.loss) > (1 - NEARER) * self._way_of(loss)

    def _way_of(self, loss: float) -> float:
        """Return how far a mean test loss is from the interval; NaN (all maps are degenerate) is as far as can be."""
        low, high = self.interval
        return math.inf if math.isnan(loss) else max(low - loss, loss - high, 0.0)

    def _stop(self, trainer: Trainer, why: str) -> None:
        trainer.should_stop = True
        self.outcome = why
