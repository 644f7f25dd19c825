"""How far a fooling of one interpreter reaches the others: trained with, against evaluated with."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from advfool.reporting.headline import known
from advfool.reporting.rows import Row

CELL, TUNED = ("model", "fooling", "interp"), ("fool_weight", "lr", "max_steps")


@dataclass(frozen=True)
class TransferCell:
    """The runs trained with one interpreter under another; their mean FSR, its ends over them, all as fractions."""

    fsr: float
    low: float
    high: float
    before: float | None
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Transfer:
    """Of one model and fooling: cells by (trained with, evaluated with), for those combinations that were run."""

    model: str
    fooling: str
    trained: tuple[str, ...]
    evaluated: tuple[str, ...]
    cells: dict[tuple[str, str], TransferCell]


def transfers(rows: Sequence[Row]) -> list[Transfer]:
    """One matrix for each model and fooling, averaged over the seeds; of several settings of one the most frequent.

    The interpreters trained with come first among those evaluated with, so that matched cells lie on the diagonal.
    """
    measured = _usual(known(rows, "fsr"))
    groups: dict[tuple, list[Row]] = {}
    for row in measured:
        groups.setdefault((row["model"], row["fooling"]), []).append(row)
    return [_of_group(*key, group) for key, group in groups.items()]


def _usual(rows: Sequence[Row]) -> list[Row]:
    """Of each model, fooling and interpreter trained with the rows of its most frequent settings."""
    settings = [tuple(row[name] for name in TUNED) for row in rows]
    cells = [tuple(row[name] for name in CELL) for row in rows]
    usual: dict[tuple, tuple] = {}
    for (cell, setting), _ in Counter(zip(cells, settings, strict=True)).most_common():
        usual.setdefault(cell, setting)
    return [row for row, cell, setting in zip(rows, cells, settings, strict=True) if usual[cell] == setting]


def _of_group(model: str, fooling: str, rows: Sequence[Row]) -> Transfer:
    trained = tuple(dict.fromkeys(row["interp"] for row in rows))
    evaluated = tuple(dict.fromkeys((*trained, *(row["evaluated_with"] for row in rows))))
    pairs: dict[tuple, list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["interp"], row["evaluated_with"]), []).append(row)
    return Transfer(model, fooling, trained, evaluated, {pair: _cell(own) for pair, own in pairs.items()})


def _cell(rows: Sequence[Row]) -> TransferCell:
    values = [row["fsr"] for row in rows]
    before = [row["fsr_before"] for row in known(rows, "fsr_before")]
    return TransferCell(fmean(values), min(values), max(values), fmean(before) if before else None, tuple(rows))
