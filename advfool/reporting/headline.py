"""The main numbers of a folder of runs: how many there are, how well they fool, and what it costs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from advfool.reporting import wording
from advfool.reporting.rows import Row, matched

ENOUGH = 0.5  # share of fooled images from which the paper calls a run a success
STATES = ("finished", "failed", "unfinished")


@dataclass(frozen=True)
class Spread:
    """A quantity over runs.

    Args:
        median: as a fraction of 1.
        low: the row of the run with the lowest value.
        high: the row of the run with the highest value.
    """

    median: float
    low: Row
    high: Row


@dataclass(frozen=True)
class Headline:
    """The main numbers of a group of runs; None where no run has a number.

    Args:
        name: of the group.
        states: number of runs by state: finished, failed, unfinished.
        measured: number of runs with an FSR.
        enough: how many of the measured runs fool at least half of the images.
        fsr: under the interpreter trained with.
        drop: the loss of top-1 accuracy.
        transfer: the median FSR under the other interpreters.
        degenerate: the largest share of degenerate heatmaps.
    """

    name: str
    states: dict[str, int]
    measured: int
    enough: int
    fsr: Spread | None
    drop: Spread | None
    transfer: float | None
    degenerate: float | None

    @property
    def runs(self) -> int:
        """The number of runs in any state."""
        return sum(self.states.values())


def headline(rows: Sequence[Row], name: str = "") -> Headline:
    """Summarise rows.

    Args:
        rows: of runs in any state.
        name: of the group that they form.
    """
    own = matched(rows)
    others = known((row for row in rows if row["evaluated_with"] != row["interp"]), "fsr")
    fsr = known(own, "fsr")
    return Headline(
        name=name,
        states={state: sum(row["state"] == state for row in own) for state in STATES},
        measured=len(fsr),
        enough=sum(row["fsr"] >= ENOUGH for row in fsr),
        fsr=_spread(fsr, "fsr"),
        drop=_spread(known(own, "accuracy_drop_top1"), "accuracy_drop_top1"),
        transfer=median(row["fsr"] for row in others) if others else None,
        degenerate=max((row["degenerate"] for row in known(own, "degenerate")), default=None),
    )


def by_fooling(rows: Sequence[Row]) -> list[Headline]:
    """Summarise the rows of each fooling, in the paper's order."""
    names = sorted({row["fooling"] for row in rows}, key=wording.rank)
    return [headline([row for row in rows if row["fooling"] == name], name) for name in names]


def known(rows: Iterable[Row], *names: str) -> list[Row]:
    """Choose the rows that have numbers in all of these columns."""
    return [row for row in rows if all(row.get(name) is not None for name in names)]


def _spread(rows: Sequence[Row], name: str) -> Spread | None:
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: row[name])
    return Spread(median(row[name] for row in rows), ordered[0], ordered[-1])
