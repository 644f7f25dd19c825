"""What a reader wants to know first: how many runs there are, how well they fool, and what it costs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from advfool.reporting import wording
from advfool.reporting.rows import Row, matched

ENOUGH = 0.5  # of the images fooled: what the paper calls a success


@dataclass(frozen=True)
class Spread:
    """The middle and both ends of a quantity over runs, and the rows at the ends; values as fractions."""

    median: float
    low: Row
    high: Row


@dataclass(frozen=True)
class Headline:
    """A group of runs in a few numbers; None where no run has them.

    states: how many runs are finished, failed and unfinished. fsr: under the interpreter trained with. enough: how
    many of the `measured` runs fool at least half of the images with it. transfer: the median FSR under the other
    interpreters. degenerate: the largest share of degenerate maps.
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
        """How many there are, in whatever state."""
        return sum(self.states.values())


def headline(rows: Sequence[Row], name: str = "") -> Headline:
    """All rows in a few numbers."""
    own = matched(rows)
    others = known((row for row in rows if row["evaluated_with"] != row["interp"]), "fsr")
    fsr = known(own, "fsr")
    return Headline(
        name=name,
        states={state: sum(row["state"] == state for row in own) for state in ("finished", "failed", "unfinished")},
        measured=len(fsr),
        enough=sum(row["fsr"] >= ENOUGH for row in fsr),
        fsr=_spread(fsr, "fsr"),
        drop=_spread(known(own, "accuracy_drop_top1"), "accuracy_drop_top1"),
        transfer=median(row["fsr"] for row in others) if others else None,
        degenerate=max((row["degenerate"] for row in known(own, "degenerate")), default=None),
    )


def by_fooling(rows: Sequence[Row]) -> list[Headline]:
    """The same for each fooling, in the paper's order."""
    names = sorted({row["fooling"] for row in rows}, key=wording.rank)
    return [headline([row for row in rows if row["fooling"] == name], name) for name in names]


def known(rows: Iterable[Row], *names: str) -> list[Row]:
    """The rows that have all these numbers."""
    return [row for row in rows if all(row.get(name) is not None for name in names)]


def _spread(rows: Sequence[Row], name: str) -> Spread | None:
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: row[name])
    return Spread(median(row[name] for row in rows), ordered[0], ordered[-1])
