"""The paper's tables from any runs: our numbers, as means over the seeds, and the published numbers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from scipy import stats

from advfool.reporting.paper.reported import FAMILIES, reported_value
from advfool.reporting.runs import Run
from advfool.reporting.settings import finite, of_usual_setting
from advfool.utilities.files import value_at

PASSIVE = ("location", "topk", "center_mass")
TRAINED = ("lrp_t", "gradcam")
NO_LABEL = "-"
BESIDE = {"null": "fsr_null", "deceptive": "deceptive_rate"}  # what stands beside an FSR, with its key in metrics.json
MEANING = "null: the highest FSR of the controls, which are no attacks; deceptive: the deceptive rate."
Interval = tuple[float, float]
Path = tuple[str, ...]  # of a rate in metrics.json
Value = Callable[[Run, tuple[str, ...], str], Path | None]  # where a run has it, by the labels of a row and a column


@dataclass(frozen=True)
class Cell:
    """One number of a table, in the table's unit; None where it is not known.

    Args:
        ours: the mean over the runs.
        interval: its 95 % interval over the runs; None for fewer than three.
        images: its 95 % interval over the images, for these runs: the means of the runs' lower and of their upper ends.
            It has nothing of the differences between the runs.
        reported: the number that the paper reports.
        runs: the names of the runs.
        values: the numbers of the runs.
        null: of an FSR, the mean over the runs of what it would be without an attack.
        deceptive: of an FSR, the mean of the deceptive rates of the same runs.
    """

    ours: float | None = None
    interval: tuple[float, float] | None = None
    reported: float | None = None
    runs: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    images: tuple[float, float] | None = None
    null: float | None = None
    deceptive: float | None = None

    @property
    def beside(self) -> dict[str, float]:
        """What stands beside an FSR, by its name; nothing that no run has measured."""
        return {name: value for name in BESIDE if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class TableRow:
    """One line of a table.

    Args:
        labels: what the line is about.
        cells: one for each column.
    """

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Args:
        name: such as `table1`.
        title: says what the numbers are.
        unit: of all numbers.
        heads: the names of the rows' labels.
        columns: (network, quantity or interpreter).
        rows: the lines.
    """

    name: str
    title: str
    unit: str
    heads: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[TableRow, ...]

    @property
    def has_nulls(self) -> bool:
        """Whether a null or a deceptive rate stands beside a number."""
        return any(cell.beside for row in self.rows for cell in row.cells)


def paper_tables(runs: Sequence[Run]) -> list[PaperTable]:
    """Make those of Tables 1, 2, 3 and 5 that the runs have numbers for.

    Args:
        runs: in any state; those that have not finished are left out.
    """
    tables = (build(runs) for build in TABLES.values())
    return [table for table in tables if any(cell.ours is not None for row in table.rows for cell in row.cells)]


def table1(runs: Sequence[Run]) -> PaperTable:
    """Make Table 1: the FSR of the passive foolings by the interpreter trained with and the one evaluated with."""
    title = "Passive fooling: FSR by the interpreter trained with (rows) and evaluated with (columns)"
    rows = [(fooling, interp) for fooling in PASSIVE for interp in TRAINED]
    chosen = of_the_paper(runs, PASSIVE)

    def value(run: Run, labels: tuple[str, ...], column: str) -> Path | None:
        return ("fsr", column) if (run.fooling, run.interp) == labels else None

    heads = ("fooling", "trained with")
    return _table("table1", title, heads, chosen, ("gradcam", "lrp_t", "simplegrad_t"), rows, value)


def table2(runs: Sequence[Run]) -> PaperTable:
    """Make Table 2: the FSR of active fooling, by class."""
    title = "Active fooling: FSR by class, the interpreter trained with (rows) and evaluated with (columns)"
    rows = [(interp, which) for interp in TRAINED for which in ("c1", "c2")]

    def value(run: Run, labels: tuple[str, ...], column: str) -> Path | None:
        return ("fsr", column, labels[1]) if run.interp == labels[0] else None

    chosen = of_the_paper(runs, ("active",))
    heads = ("trained with", "class")
    return _table("table2", title, heads, chosen, ("gradcam", "lrp_t", "lrp"), rows, value)


def table3(runs: Sequence[Run]) -> PaperTable:
    """Make Table 3: the accuracy of the original and of all manipulated networks."""
    rows = [("original", NO_LABEL)]
    rows += [(fooling, interp) for fooling in (*PASSIVE, "active") for interp in TRAINED]

    def value(run: Run, labels: tuple[str, ...], column: str) -> Path | None:
        if labels[0] == "original":
            return "accuracy", "original", column
        return ("accuracy", "manipulated", column) if (run.fooling, run.interp) == labels else None

    chosen = of_the_paper(runs, (*PASSIVE, "active"))
    title = "Accuracy of the original and the manipulated networks"
    return _table("table3", title, ("fooling", "trained with"), chosen, ("top1", "top5"), rows, value)


def table5(runs: Sequence[Run]) -> PaperTable:
    """Make Table 5: the top-5 accuracy on the two classes that active fooling swaps, and the top-1 beside it."""
    rows = [("original",), *((interp,) for interp in TRAINED)]

    def value(run: Run, labels: tuple[str, ...], column: str) -> Path | None:
        network = "original" if labels[0] == "original" else "manipulated"
        of_this_row = network == "original" or run.interp == labels[0]
        return ("accuracy", network, column) if of_this_row else None

    chosen = of_the_paper(runs, ("active",))
    title = (
        "Active fooling: accuracy on the images of the two swapped classes. Published: top-5 (Appendix D); its text "
        "does not say which column is which class, taken as c1, c2. c1, c2: our top-1; top-5 of more than 5 classes"
    )
    columns = ("c1_top5", "c2_top5", "c1", "c2")
    return _table("table5", title, ("trained with",), chosen, columns, rows, value)


TABLES: dict[str, Callable[[Sequence[Run]], PaperTable]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table5": table5,
}


def of_the_paper(runs: Iterable[Run], foolings: Sequence[str]) -> list[Run]:
    """Choose the finished runs that the paper's tables compare.

    Where several settings of one model, fooling and interpreter were run, the runs of the most frequent setting are
    chosen, and one run of each seed, so that a mean is over the seeds. Runs with adversarial training are left out.

    Args:
        runs: in any state.
        foolings: the names of the foolings.
    """
    found = [
        run for run in runs if run.metrics and run.fooling in foolings and run.interp in TRAINED and not _robust(run)
    ]
    by_seed: dict[tuple, Run] = {}
    for run in of_usual_setting(found, lambda run: run.group, lambda run: run.setting):
        by_seed.setdefault((run.group, run.seed, run.results.get("original_sha256")), run)
    return list(by_seed.values())


def models_of(runs: Iterable[Run]) -> list[str]:
    """List the networks of the runs; those of the paper's families come first and in its order."""
    names = sorted({run.model for run in runs})

    def place(name: str) -> int:
        return next((place for place, family in enumerate(FAMILIES) if name.startswith(family)), len(FAMILIES))

    return sorted(names, key=lambda name: (name.endswith("_2"), place(name), name))


def mean_and_interval(values: Sequence[float], least: float = 0, most: float = 100) -> tuple[float, Interval | None]:
    """Average over runs, with a 95 % interval by Student's t.

    Args:
        values: of the runs.
        least: the lowest possible value, which limits the interval.
        most: the highest possible value, which limits the interval.

    Returns:
        the mean and its interval; None in place of the interval of fewer than three runs.

    >>> mean_and_interval([90, 92, 94])
    (92.0, (87.03, 96.97))
    """
    mean = float(np.mean(values))
    if len(values) < 3:
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
    value: Value,
) -> PaperTable:
    columns = tuple((model, kind) for model in models_of(runs) for kind in kinds)
    lines = []
    for labels in rows:
        cells = []
        for model, kind in columns:
            places = [(run, value(run, labels, kind)) for run in runs if run.model == model]
            found = [(run, place) for run, place in places if place and _number(run, place) is not None]
            if labels[0] == "original":  # one network, however often it was manipulated
                found = list({run.results.get("original_sha256"): (run, place) for run, place in found}.values())
            cell = _cell_of(found, reported_value(name, labels, model, kind))
            cells.append(replace(cell, **_beside(found)))
        lines.append(TableRow(labels, tuple(cells)))
    return PaperTable(name, title, "%", heads, columns, tuple(lines))


def _beside(found: Sequence[tuple[Run, Path]]) -> dict[str, float]:
    """Average what stands beside an FSR over the runs that have it, in percent; nothing for other rates."""
    rates = {
        name: [_number(run, (key, *place[1:])) for run, place in found if place[0] == "fsr"]
        for name, key in BESIDE.items()
    }
    known = {name: [value for value in values if value is not None] for name, values in rates.items()}
    return {name: 100 * fmean(values) for name, values in known.items() if values}


def _cell_of(found: Sequence[tuple[Run, Path]], reported: float | None) -> Cell:
    if not found:
        return Cell(reported=reported)
    values = tuple(100 * _number(run, place) for run, place in found)  # type: ignore[operator] (known to be numbers)
    mean, interval = mean_and_interval(values)
    images = _over_images([value_at(run.results, ("ci95", *place)) for run, place in found])
    return Cell(mean, interval, reported, tuple(run.name for run, _ in found), values, images)


def _number(run: Run, place: Path) -> float | None:
    return finite(value_at(run.results, place))


def _over_images(intervals: Sequence[object]) -> Interval | None:
    """Average the ends of the runs' intervals over the images, in percent; None where a run has none."""
    known = [ends for ends in intervals if isinstance(ends, list) and len(ends) == 2]
    known = [ends for ends in known if all(finite(end) is not None for end in ends)]
    if not known or len(known) < len(intervals):
        return None
    low, high = (100 * np.mean(known, axis=0)).round(2).tolist()
    return low, high


def _robust(run: Run) -> bool:
    """Tell whether a run was trained on adversarial images, as for Figure 4(c)."""
    return "free_adversarial" in (run.config.get("callbacks") or {})
