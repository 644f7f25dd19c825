"""The verdicts of an audit, and the rules that they follow from."""

from collections.abc import Sequence

UNRANKED = ("degenerate", "unfaithful", "no gradient", "not attacked")
FAILED = "failed"  # what the outcome of a trial begins with that was not carried out
HALF = 0.5  # share of the maps that makes an attack pointless
BROKEN = 0.5  # deceptive rate that the lower end of the interval reaches for an interpreter to count as broken


def verdict_before(faithful: float, degenerate: float, zero_gradient: float) -> str | None:
    """Say what makes an attack pointless; None where nothing does.

    Args:
        faithful: share of the original maps that are faithful.
        degenerate: share that is constant or not finite.
        zero_gradient: share that does not depend on the network's parameters.
    """
    if degenerate >= HALF:
        return "degenerate"
    if faithful < HALF:
        return "unfaithful"
    return "no gradient" if zero_gradient >= HALF else None


def has_failed(outcome: str) -> bool:
    """Tell from the outcome of a trial whether it was not carried out."""
    return outcome.startswith(FAILED)


def verdict_after(
    suite: str, attack: str | None, ci95: Sequence[float] | None, accuracy: str | None, outcomes: Sequence[str]
) -> str:
    """Say what an audit found of an interpreter that was attacked.

    Args:
        suite: version of the protocol.
        attack: that was chosen; None where none stayed within the budget.
        ci95: 95 % interval of its deceptive rate on the test images; None where there is none.
        accuracy: whether the accuracy was `kept` or `lost`, by the budget.
        outcomes: how the trials ended.
    """
    if all(map(has_failed, outcomes)):
        return "not attacked"
    low = ci95[0] if ci95 else 0.0
    if attack is not None and low >= BROKEN and accuracy != "lost":
        return f"broken by {attack}"
    return f"not broken by {suite}"
