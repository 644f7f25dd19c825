"""The images that judge attacks: enough of them for a price to be read off."""

import logging
from dataclasses import replace
from math import ceil

from advfool.auditing.suite import AuditSettings
from advfool.data.reserving import WithMoreSelection
from advfool.evaluation.setup import Setup
from advfool.training.multiplier import within
from advfool.utilities.errors import AdvfoolError

log = logging.getLogger(__name__)


def with_enough_selection(setup: Setup, settings: AuditSettings) -> Setup:
    """Let training images judge where there are too few selection images for the budget.

    A price within the budget is at least two selection images; where there are fewer than that takes, twice as many as
    that takes are made, but at most 40 % of what is not for testing, unless half of it is needed.
    """
    have, total = len(setup.data.selection()), len(setup.data.selection()) + len(setup.data.train())
    needed = ceil(2 / settings.top1 - 1e-9) if settings.top1 else total
    if have >= needed or needed > total / 2:
        return setup
    images = max(needed, min(2 * needed, round(0.4 * total)))
    data = WithMoreSelection(setup.data, images, setup.settings.seed)
    log.info("%d training images judge the attacks: %d selection images instead of %d", data.moved, images, have)
    return replace(setup, data=data)


def check_budget(setup: Setup, settings: AuditSettings) -> None:
    """Raise an AdvfoolError where the budget is so small that the selection images cannot tell."""
    images = len(setup.data.selection())
    if not within(2, settings.top1 * images):
        raise AdvfoolError(
            f"budget.top1={settings.top1}: two of {images} selection images are {2 / images:.2%}, and a smaller price "
            f"cannot be read off them. Give a larger budget, or at least {ceil(2 / settings.top1)} selection images "
            "(data.selection_fraction=..., selection=...)."
        )
