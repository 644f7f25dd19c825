"""Which attacks of the suite mean something for an interpreter."""

from collections.abc import Mapping

from advfool.auditing.attack import attacked_by
from advfool.evaluation.gate import ENOUGH, gate_of
from advfool.evaluation.setup import Setup
from advfool.foolings.base import CompositeFooling, Fooling
from advfool.utilities.errors import AdvfoolError


def meaningless(setup: Setup, foolings: Mapping[str, Fooling]) -> dict[str, str]:
    """Find the attacks that mean nothing for the first interpreter of a setup.

    A swap of the maps of two classes means nothing where the data name no two classes, have too few images of them, or
    where the original maps do not point into their own tiles of the selection composites.

    Args:
        setup: of the audit.
        foolings: those of the attacks, by name.

    Returns:
        for each such attack, why.
    """
    found = {}
    for name, fooling in foolings.items():
        if isinstance(fooling, CompositeFooling) and (why := _why(setup, fooling)):
            found[name] = why
    return found


def _why(setup: Setup, fooling: CompositeFooling) -> str | None:
    if None in setup.data.pair and None in (fooling.c1, fooling.c2):
        return "the data name no two classes to swap (data.pair)"
    try:
        gate = gate_of(attacked_by(setup, fooling))["gate"]
    except AdvfoolError as error:
        return str(error).splitlines()[0]
    share = gate["pointing"][setup.trained.name]["both"]
    why = f"both original maps point into their own tiles on {share:.1%} of the composites; it takes {ENOUGH:.0%}"
    return None if gate["passes"] else why
