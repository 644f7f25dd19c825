"""The tables of a leaderboard: what was measured alike is ranked together, and nothing else."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from advfool.auditing.leaderboard.entries import Entry
from advfool.auditing.record import Audited, Record
from advfool.auditing.record_further import Detector
from advfool.auditing.suite import NAME, AuditSettings
from advfool.auditing.verdicts import UNRANKED
from advfool.evaluation.setup import FaithfulnessSettings
from advfool.utilities.text import cell

OF_ITS_OWN = ("top1", "seed", "faithfulness.seed", "faithfulness.images")  # stand elsewhere, or are no other protocol


@dataclass(frozen=True)
class Row:
    """An interpreter of an audit.

    Args:
        rank: place in its table, 1 for the most easily fooled; None where it is listed without a rank.
        interpreter: its name.
        network: name of the network.
        data: name of the data.
        suite: version of the protocol.
        budget: top-1 accuracy that the attack may cost, as a fraction.
        verdict: what the audit found.
        deceptive_rate: of the chosen attack, on test images.
        low: lower end of its 95 % interval.
        high: upper end.
        price: top-1 accuracy lost on test images, as a fraction.
        price_low: lower end of its 95 % interval.
        price_high: upper end.
        auc: of the best detector; None where none was tried.
        detector: its name.
        seed: of the audit.
        audit: name of its folder.
        page: address of its page; None where it has none.
        agrees: whether the audit's record agrees with itself and the rules; what does not is listed without a rank.
    """

    rank: int | None
    interpreter: str
    network: str
    data: str
    suite: str
    budget: float
    verdict: str
    deceptive_rate: float | None
    low: float | None
    high: float | None
    price: float | None
    price_low: float | None
    price_high: float | None
    auc: float | None
    detector: str | None
    seed: int
    audit: str
    page: str | None
    agrees: bool


@dataclass(frozen=True)
class Ranking:
    """Interpreters that were measured alike.

    Args:
        schema: version of their records.
        suite: version of the protocol.
        budget: top-1 accuracy that the attack may cost, as a fraction.
        settings: of the suite.
        changed: those that differ from the suite's own, in words; empty where none does.
        rows: the most easily fooled first, those without a rank last.
    """

    schema: int
    suite: str
    budget: float
    settings: dict[str, Any]
    changed: str
    rows: tuple[Row, ...]


def rankings(entries: Sequence[Entry]) -> list[Ranking]:
    """Rank the interpreters of all audits, in a table for each schema, suite, budget and set of settings."""
    alike: dict[str, list[Entry]] = {}
    for entry in entries:
        record = entry.record
        key = json.dumps([record.version, record.suite, record.budget.top1, _settings(record)])
        alike.setdefault(key, []).append(entry)
    tables = [_ranking(group) for group in alike.values()]
    return sorted(tables, key=lambda table: (table.suite, bool(table.changed), table.budget, table.changed))


def _ranking(entries: Sequence[Entry]) -> Ranking:
    record = entries[0].record
    found: list[tuple[Entry, str, Audited]] = []
    for entry in entries:
        found += [(entry, name, audited) for name, audited in entry.record.interpreters.items()]
    found.sort(key=_place)
    rows = [_row(*each, rank=None if _unranked(each) else rank) for rank, each in enumerate(found, 1)]
    settings = _settings(record)
    return Ranking(record.version, record.suite, record.budget.top1, settings, _changed(record, settings), tuple(rows))


def _place(each: tuple[Entry, str, Audited]) -> tuple:
    """Return a key that sorts the most easily fooled first, the cheaper of equal ones before the other."""
    entry, name, audited = each
    low = audited.ci95[0] if audited.ci95 else 0.0
    best = (-(audited.deceptive_rate or 0.0), -low, audited.top1_drop or 0.0)
    return _unranked(each), audited.verdict in UNRANKED, *best, name, entry.record.model, entry.name


def _unranked(each: tuple[Entry, str, Audited]) -> bool:
    """Tell whether an interpreter is listed without a rank."""
    return each[2].verdict in UNRANKED or not each[0].agrees


def _row(entry: Entry, name: str, audited: Audited, rank: int | None) -> Row:
    record, detector = entry.record, _best({**entry.record.detectors, **audited.detectors})
    low, high = audited.ci95 or (None, None)
    price_low, price_high = audited.top1_drop_ci95 or (None, None)
    return Row(
        rank=rank,
        interpreter=name,
        network=record.model,
        data=record.data,
        suite=record.suite,
        budget=record.budget.top1,
        verdict=audited.verdict,
        deceptive_rate=audited.deceptive_rate,
        low=low,
        high=high,
        price=audited.top1_drop,
        price_low=price_low,
        price_high=price_high,
        auc=detector[1].auc if detector else None,
        detector=detector[0] if detector else None,
        seed=record.seed,
        audit=entry.name,
        page=entry.address,
        agrees=entry.agrees,
    )


def _best(detectors: Mapping[str, Detector]) -> tuple[str, Detector] | None:
    return max(detectors.items(), key=lambda each: each[1].auc, default=None)


def _settings(record: Record) -> dict[str, Any]:
    """Return the settings that make a protocol what it is."""
    return {name: record.settings[name] for name in sorted(record.settings) if name not in OF_ITS_OWN}


def _changed(record: Record, settings: Mapping[str, Any]) -> str:
    """List the settings that differ from those of the suite, where it is the present one."""
    if record.suite != NAME:
        return ""
    own = {"target": "label"} | {field.name: field.default for field in fields(AuditSettings)}
    own |= {f"faithfulness.{field.name}": field.default for field in fields(FaithfulnessSettings)}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}
    found = [f"{name}={_shown(value)}" for name, value in settings.items() if name not in plain or plain[name] != value]
    return ", ".join(found)


def _shown(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def as_json(tables: Sequence[Ranking]) -> dict[str, Any]:
    """Return the tables as the content of leaderboard.json."""
    return {"schema": 1, "tables": [asdict(table) for table in tables]}


def as_csv(tables: Sequence[Ranking]) -> str:
    """Return the rows of all tables, with the number of the table, as CSV that no spreadsheet computes."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    names = [field.name for field in fields(Row)]
    writer.writerow(["table", *names])
    for number, table in enumerate(tables, 1):
        for row in table.rows:
            writer.writerow([number, *("" if (value := getattr(row, name)) is None else cell(value) for name in names)])
    return content.getvalue()
