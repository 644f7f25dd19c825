"""The paper's tables from any runs: our numbers, means over the fine-tuning seeds, and the published ones."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from advfool.reporting.paper.reported import FAMILIES, reported_value
from advfool.reporting.runs import Run

PASSIVE = ("location", "topk", "center_mass")
TRAINED = ("lrp_t", "gradcam")
NO_LABEL = "-"


@dataclass(frozen=True)
class Cell:
    """One number of a table: mean over the runs, its 95 % interval over the runs, and what the paper reports.

    All in the table's unit, None where unknown. runs: the names of the runs behind it, values: their own numbers.
    """

    ours: float | None = None
    interval: tuple[float, float] | None = None
    reported: float | None = None
    runs: tuple[str, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of a table: what it is of, and a cell for each column."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, e.g. name `table1`: `heads` name the labels of rows, `columns` are (network, what)."""

    name: str
    title: str
    unit: str
    heads: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


def paper_tables(runs: Sequence[Run]) -> list[PaperTable]:
    """Those of Tables 1, 2, 3 and 5 that finished runs have numbers for."""
    tables = (build(runs) for build in TABLES.values())
    return [table for table in tables if any(cell.ours is not None for row in table.rows for cell in row.cells)]


def table1(runs: Sequence[Run]) -> PaperTable:
    """FSR of the passive foolings by the interpreter trained with and the one evaluated with."""
    title = "Passive fooling: FSR by the interpreter trained with (rows) and evaluated with (columns)"
    rows = [(fooling, interp) for fooling in PASSIVE for interp in TRAINED]
    chosen = of_the_paper(runs, PASSIVE)

    def value(run: Run, labels: tuple[str, ...], column: str) -> float | None:
        return run.fsr(column) if (run.fooling, run.interp) == labels else None

    heads = ("fooling", "trained with")
    return _table("table1", title, heads, chosen, ("gradcam", "lrp_t", "simplegrad_t"), rows, value)


def table2(runs: Sequence[Run]) -> PaperTable:
    """FSR of active fooling, by class."""
    title = "Active fooling: FSR by class, the interpreter trained with (rows) and evaluated with (columns)"
    rows = [(interp, which) for interp in TRAINED for which in ("c1", "c2")]

    def value(run: Run, labels: tuple[str, ...], column: str) -> float | None:
        return (run.fsr(column) or {}).get(labels[1]) if run.interp == labels[0] else None

    chosen = of_the_paper(runs, ("active",))
    return _table("table2", title, ("trained with", "class"), chosen, ("gradcam", "lrp_t", "lrp"), rows, value)


def table3(runs: Sequence[Run]) -> PaperTable:
    """Accuracy of the original and of all manipulated networks."""
    rows = [("original", NO_LABEL)]
    rows += [(fooling, interp) for fooling in (*PASSIVE, "active") for interp in TRAINED]

    def value(run: Run, labels: tuple[str, ...], column: str) -> float | None:
        if labels[0] == "original":
            return run.metrics["accuracy"]["original"][column]
        return run.metrics["accuracy"]["manipulated"][column] if (run.fooling, run.interp) == labels else None

    chosen = of_the_paper(runs, (*PASSIVE, "active"))
    title = "Accuracy of the original and the manipulated networks"
    return _table("table3", title, ("fooling", "trained with"), chosen, ("top1", "top5"), rows, value)


def table5(runs: Sequence[Run]) -> PaperTable:
    """Accuracy on the two classes that active fooling swaps."""
    rows = [("original",), *((interp,) for interp in TRAINED)]

    def value(run: Run, labels: tuple[str, ...], column: str) -> float | None:
        if labels[0] == "original":
            return run.metrics["accuracy"]["original"][column]
        return run.metrics["accuracy"]["manipulated"][column] if run.interp == labels[0] else None

    chosen = of_the_paper(runs, ("active",))
    title = "Active fooling: top-1 accuracy on the images of the two swapped classes"
    return _table("table5", title, ("trained with",), chosen, ("c1", "c2"), rows, value)


TABLES: dict[str, Callable[[Sequence[Run]], PaperTable]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table5": table5,
}


def of_the_paper(runs: Iterable[Run], foolings: Sequence[str]) -> list[Run]:
    """The finished runs of these foolings that the paper's tables compare; where several settings of one were tried
    (fool_weight, lr, steps), those of the most frequent one, and of each seed one run, so that a mean is over seeds."""
    found = [
        run for run in runs if run.metrics and run.fooling in foolings and run.interp in TRAINED and not _robust(run)
    ]
    settings = Counter((_cell(run), _settings(run)) for run in found)
    usual = {}
    for (cell, setting), _ in settings.most_common():
        usual.setdefault(cell, setting)
    chosen = [run for run in found if _settings(run) == usual[_cell(run)]]
    by_seed: dict[tuple, Run] = {}
    for run in chosen:
        by_seed.setdefault((_cell(run), run.seed, run.metrics.get("original_sha256")), run)
    return list(by_seed.values())


def models_of(runs: Iterable[Run]) -> list[str]:
    """The networks' names, those of the paper's families first and in its order."""
    names = sorted({run.model for run in runs})

    def place(name: str) -> int:
        return next((place for place, family in enumerate(FAMILIES) if name.startswith(family)), len(FAMILIES))

    return sorted(names, key=lambda name: (name.endswith("_2"), place(name), name))


def mean_and_interval(values: Sequence[float], least: float = 0, most: float = 100) -> tuple[float, tuple | None]:
    """Mean over runs and its 95 % interval by Student's t, within the values that are possible; None of a single run.

    >>> mean_and_interval([90, 92, 94])
    (92.0, (87.03, 96.97))
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    reach = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, (round(max(mean - reach, least), 2), round(min(mean + reach, most), 2))


def _table(
    name: str,
    title: str,
    heads: tuple[str, ...],
    runs: Sequence[Run],
    kinds: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    value: Callable[[Run, tuple[str, ...], str], float | None],
) -> PaperTable:
    columns = tuple((model, kind) for model in models_of(runs) for kind in kinds)
    lines = []
    for labels in rows:
        cells = []
        for model, kind in columns:
            found = [(run, value(run, labels, kind)) for run in runs if run.model == model]
            found = [(run, 100 * number) for run, number in found if number is not None]
            if labels[0] == "original":  # one network, however often it was manipulated
                found = list({run.metrics.get("original_sha256"): (run, number) for run, number in found}.values())
            cells.append(_cell_of(found, reported_value(name, labels, model, kind)))
        lines.append(Row(labels, tuple(cells)))
    return PaperTable(name, title, "%", heads, columns, tuple(lines))


def _cell_of(found: Sequence[tuple[Run, float]], reported: float | None) -> Cell:
    if not found:
        return Cell(reported=reported)
    runs, values = zip(*found, strict=True)
    mean, interval = mean_and_interval(values)
    return Cell(mean, interval, reported, tuple(run.name for run in runs), tuple(values))


def _robust(run: Run) -> bool:
    """Whether adversarial images were trained on (Figure 4(c))."""
    return "free_adversarial" in (run.config.get("callbacks") or {})


def _cell(run: Run) -> tuple:
    return run.model, run.fooling, run.interp


def _settings(run: Run) -> tuple:
    config = run.config
    data = (config["data"]["_target_"], config["data"]["batch_size"])
    return config["fool_weight"], config["optimizer"]["lr"], config["trainer"]["max_steps"], config["target"], *data
