"""The record of an experiment: our numbers, and everything that is needed to reproduce them."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import torch

from advfool.reporting.paper.tables import MEANING, Cell, PaperTable
from advfool.reporting.runs import Run
from advfool.utilities.files import STATUS, read_json
from advfool.utilities.provenance import commit

OF_THE_MACHINE = ("commit", "versions", "device", "device_name", "threads", "python", "platform")


def record_of(name: str, scale: str, runs: Sequence[Run], result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Make the content of measured.json.

    Args:
        name: of the table or figure.
        scale: name of the scale, such as `digits`.
        runs: the finished runs that the result comes from.
        result: the numbers.
        seconds: duration of all measuring and drawing on the finished runs.

    Returns:
        the result with the command, seeds, versions, device and durations of the runs.
    """
    environments = [run.environment or {} for run in runs]

    def common(key: str) -> object:
        """Return the value that all runs share, or a list of the different values."""
        values = list({str(found.get(key)): found.get(key) for found in environments}.values())
        return values[0] if len(values) == 1 else values

    durations = [(read_json(run.folder / STATUS) or {}).get("seconds") for run in runs]
    known = [value for value in durations if value]
    return {
        "experiment": name,
        "scale": scale,
        "command": f"python -m advfool.train {shlex.join(sys.argv[1:])}".strip(),
        "date": date.today().isoformat(),
        "seeds": sorted({run.seed for run in runs}),
        "runs": len(runs),
        "cell_seconds": {"cells": len(known), "total": round(sum(known), 1), "longest": max(known)} if known else None,
        **{key: common(key) for key in OF_THE_MACHINE},
        "made_with": {"seconds": round(seconds, 1), "threads": torch.get_num_threads(), "commit": commit()},
        "result": result,
    }


def of_table(table: PaperTable) -> dict[str, Any]:
    """Turn a table into numbers; each cell has the values of its runs."""
    rows = [
        {
            "labels": list(row.labels),
            "cells": {
                f"{model} {kind}": {key: value for key, value in asdict(cell).items() if key != "runs"}
                for (model, kind), cell in zip(table.columns, row.cells, strict=True)
            },
        }
        for row in table.rows
    ]
    return {"title": table.title, "unit": table.unit, "rows": rows}


def as_markdown(table: PaperTable) -> str:
    """Write a table as Markdown: our numbers, and the published ones in brackets.

    Beside an FSR stand what it would be without an attack and the deceptive rate, where the runs have them.
    """
    heads = [*table.heads, *(f"{model} {kind}" for model, kind in table.columns)]
    lines = [heads, ["---"] * len(table.heads) + ["---:"] * len(table.columns)]
    for row in table.rows:
        lines.append([*row.labels, *(_shown(cell) for cell in row.cells)])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{text}\n\n{MEANING}" if table.has_nulls else text


def _shown(cell: Cell) -> str:
    ours = "-" if cell.ours is None else f"{cell.ours:.1f}"
    if cell.beside:
        ours += "; " + ", ".join(f"{name} {value:.1f}" for name, value in cell.beside.items())
    return ours if cell.reported is None else f"{ours} ({cell.reported:.1f})"
