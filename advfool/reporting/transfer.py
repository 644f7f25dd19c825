"""How far the fooling of one interpreter carries over to others: trained with against evaluated with."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from advfool.reporting.headline import known
from advfool.reporting.rows import NAMES, Row
from advfool.reporting.settings import Setting, of_usual_setting


@dataclass(frozen=True)
class TransferCell:
    """The FSR of runs trained with one interpreter under another; rates are fractions of 1.

    Args:
        fsr: the mean over the runs.
        low: of the run with the lowest FSR.
        high: of the run with the highest FSR.
        before: the mean FSR of the original network; None where it is not known.
        rows: of the runs.
        null: the mean of what the FSR would be without an attack; None where it is not known.
        deceptive: the mean deceptive rate; None where it is not known.
    """

    fsr: float
    low: float
    high: float
    before: float | None
    rows: tuple[Row, ...]
    null: float | None = None
    deceptive: float | None = None


@dataclass(frozen=True)
class Transfer:
    """The matrix of one model and fooling.

    Args:
        model: its name.
        fooling: its name.
        trained: interpreters trained with.
        evaluated: interpreters evaluated with; those trained with come first.
        cells: by (trained with, evaluated with), for those combinations that were run.
    """

    model: str
    fooling: str
    trained: tuple[str, ...]
    evaluated: tuple[str, ...]
    cells: dict[tuple[str, str], TransferCell]


def transfers(rows: Sequence[Row]) -> list[Transfer]:
    """Make one matrix for each model and fooling, averaged over the seeds.

    Where several settings of one model, fooling and interpreter were run, the most frequent one is used.

    Args:
        rows: of runs in any state; those without an FSR are left out.

    Returns:
        the matrices; on their diagonals the interpreter trained with is the one evaluated with.
    """
    measured = of_usual_setting(known(rows, "fsr"), lambda row: tuple(row[name] for name in NAMES), Setting.of_row)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in measured:
        groups.setdefault((row["model"], row["fooling"]), []).append(row)
    return [_matrix(*key, group) for key, group in groups.items()]


def _matrix(model: str, fooling: str, rows: Sequence[Row]) -> Transfer:
    trained = tuple(dict.fromkeys(row["interp"] for row in rows))
    known = {row["evaluated_with"] for row in rows}
    alone = (name for name in trained if name in known)  # on the diagonal; several attacked at once have no column
    evaluated = tuple(dict.fromkeys((*alone, *(row["evaluated_with"] for row in rows))))
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["interp"], row["evaluated_with"]), []).append(row)
    return Transfer(model, fooling, trained, evaluated, {pair: _cell(own) for pair, own in pairs.items()})


def _cell(rows: Sequence[Row]) -> TransferCell:
    values = [row["fsr"] for row in rows]
    before, null, deceptive = (_mean(rows, name) for name in ("fsr_before", "fsr_null", "deceptive_rate"))
    return TransferCell(fmean(values), min(values), max(values), before, tuple(rows), null, deceptive)


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in known(rows, name)]
    return fmean(values) if values else None
