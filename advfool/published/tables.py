"""What the paper's tables are made of: our numbers, and the published ones beside them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """One number of a table: mean over the runs, its 95 % interval over the runs, and what the paper reports.

    All in the table's unit, None where unknown. runs: the names of the runs behind it.
    """

    ours: float | None = None
    interval: tuple[float, float] | None = None
    reported: float | None = None
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of a table: what it is of, and a cell for each column."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper, e.g. name `table1`: `heads` name the rows' labels, `columns` the cells."""

    name: str
    title: str
    unit: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...] = field(default=())
