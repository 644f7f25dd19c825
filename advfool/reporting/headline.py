"""The main numbers of a folder of runs: how many there are, how well they fool, and what it costs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from advfool.reporting import wording
from advfool.reporting.rows import Row, is_matched, matched

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
        null: the highest FSR of the controls, which are no attacks.
        deceptive: the share of deceived images among those with an honest explanation to lose.
        misdirected: the share of maps that point away from the object among those that pointed at it.
        drop: the loss of top-1 accuracy.
        transfer: the median FSR under the other interpreters.
        transfer_null: the median of what that FSR would be without an attack.
        transfer_deceptive: the median deceptive rate under the other interpreters.
        degenerate: the largest share of degenerate heatmaps.
    """

    name: str
    states: dict[str, int]
    measured: int
    enough: int
    fsr: Spread | None
    null: Spread | None
    deceptive: Spread | None
    misdirected: Spread | None
    drop: Spread | None
    transfer: float | None
    transfer_null: float | None
    transfer_deceptive: float | None
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
    others = [row for row in rows if not is_matched(row)]
    fsr = known(own, "fsr")
    return Headline(
        name=name,
        states={state: len({row["run"] for row in own if row["state"] == state}) for state in STATES},
        measured=len(fsr),
        enough=sum(row["fsr"] >= ENOUGH for row in fsr),
        fsr=_spread(fsr, "fsr"),
        null=_spread(known(own, "fsr_null"), "fsr_null"),
        deceptive=_spread(known(own, "deceptive_rate"), "deceptive_rate"),
        misdirected=_spread(known(own, "misdirected_rate"), "misdirected_rate"),
        drop=_spread(known(own, "accuracy_drop_top1"), "accuracy_drop_top1"),
        transfer=_median(others, "fsr"),
        transfer_null=_median(others, "fsr_null"),
        transfer_deceptive=_median(others, "deceptive_rate"),
        degenerate=max((row["degenerate"] for row in known(own, "degenerate")), default=None),
    )


def by_fooling(rows: Sequence[Row]) -> list[Headline]:
    """Summarise the rows of each fooling, in the paper's order."""
    names = sorted({row["fooling"] for row in rows}, key=wording.rank)
    return [headline([row for row in rows if row["fooling"] == name], name) for name in names]


def known(rows: Iterable[Row], *names: str) -> list[Row]:
    """Choose the rows that have numbers in all of these columns."""
    return [row for row in rows if all(row.get(name) is not None for name in names)]


def _median(rows: Iterable[Row], name: str) -> float | None:
    values = [row[name] for row in known(rows, name)]
    return median(values) if values else None


def _spread(rows: Sequence[Row], name: str) -> Spread | None:
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: row[name])
    return Spread(median(row[name] for row in rows), ordered[0], ordered[-1])
