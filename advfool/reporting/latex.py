"""tables.tex: tables for a paper, with the rules of booktabs."""

from collections.abc import Sequence
from itertools import groupby

from advfool.reporting import wording
from advfool.reporting.paper.tables import Cell, PaperTable
from advfool.reporting.rows import Row

HEAD = r"""% Written by python -m advfool.report. In the preamble: \usepackage{booktabs,graphicx}
% Each cell: our number {\scriptsize [95 % interval over the runs; over the images]} / the published number.
% In brackets after an FSR: what it would be without an attack (null); after a semicolon: the deceptive rate."""


def latex_tables(rows: Sequence[Row], tables: Sequence[PaperTable]) -> str:
    """Write the paper's tables, then a table with the FSR of every run.

    Args:
        rows: of all runs.
        tables: the paper's tables that the runs have numbers for.
    """
    return "\n\n".join([HEAD, *map(_published, tables), *_transfer(rows)]) + "\n"


def _published(table: PaperTable) -> str:
    blocks = []
    for _, group in groupby(table.rows, key=lambda row: row.labels[:1]):
        before: tuple[str, ...] = ()
        block = []
        for row in group:
            labels = [
                "" if before[: place + 1] == row.labels[: place + 1] else wording.latex(wording.word(label))
                for place, label in enumerate(row.labels)
            ]
            block.append([*labels, *map(_cell, row.cells)])
            before = row.labels
        blocks.append(block)
    caption = f"{wording.latex(table.title)} ({wording.latex(table.unit)}): ours / Heo et al.\\ (2019)."
    heads = [wording.latex(wording.word(head)) for head in (*table.heads, *(kind for _, kind in table.columns))]
    labels = len(table.heads)
    return _table(caption, f"tab:{table.name}", labels, [_networks(table, labels), _line(heads)], blocks)


def _networks(table: PaperTable, labels: int) -> str:
    """Write the line of networks above their columns, with a rule below each."""
    heads, rules, start = [""] * labels, [], labels + 1
    for network, columns in groupby(network for network, _ in table.columns):
        count = len(list(columns))
        heads.append(f"\\multicolumn{{{count}}}{{c}}{{{wording.latex(network)}}}")
        rules.append(f"\\cmidrule(lr){{{start}-{start + count - 1}}}")
        start += count
    return f"{_line(heads)}\n{' '.join(rules)}"


def _cell(cell: Cell) -> str:
    ours = wording.latex(wording.number(cell.ours))
    if cell.interval or cell.images:
        ours += rf" {{\scriptsize [{_ends(cell.interval)}; {_ends(cell.images)}]}}"
    ours += _beside(cell.null, cell.deceptive)
    return ours if cell.reported is None else f"{ours} / {wording.latex(wording.number(cell.reported))}"


def _ends(interval: tuple[float, float] | None) -> str:
    return "--" if interval is None else ", ".join(wording.latex(wording.number(end)) for end in interval)


def _rates(row: Row) -> str:
    null, deceptive = (
        None if (rate := row.get(name)) is None else 100 * rate for name in ("fsr_null", "deceptive_rate")
    )
    return wording.percent(row["fsr"]) + _beside(null, deceptive)


def _beside(null: float | None, deceptive: float | None) -> str:
    """Write what stands beside an FSR; numbers in percent."""
    return (f" ({wording.number(null)})" if null is not None else "") + (
        f"; {wording.number(deceptive)}" if deceptive is not None else ""
    )


def _transfer(rows: Sequence[Row]) -> list[str]:
    """Write the FSR of every run and interpreter: a line for each run."""
    finished = [row for row in rows if row.get("fsr") is not None]
    if not finished:
        return []
    others = list(dict.fromkeys(row["evaluated_with"] for row in finished))
    names = ["Model", "Fooling", "Trained with", "Seed", *map(wording.interp, others), "Top-1 drop"]
    lines = []
    for _, group in groupby(finished, key=lambda row: row["run"]):
        own = {row["evaluated_with"]: row for row in group}
        row = next(iter(own.values()))
        values = [_rates(own[other]) if other in own else "" for other in others]
        labels = (row["model"], wording.fooling(row["fooling"]), wording.interp(row["interp"]), row["seed"])
        line = [*labels, *values, wording.percent(row.get("accuracy_drop_top1"), 2)]
        lines.append([wording.latex("" if text is None else text) for text in line])
    caption = (
        r"FSR (\%) of every run by the interpreter evaluated with (in brackets without an attack; after the semicolon "
        "the deceptive rate), and its loss of top-1 accuracy (points)."
    )
    return [_table(caption, "tab:runs", 4, [_line([wording.latex(name) for name in names])], [lines])]


def _table(
    caption: str, label: str, labels: int, heads: Sequence[str], blocks: Sequence[Sequence[Sequence[str]]]
) -> str:
    """Write a table of blocks of lines, with a rule between blocks; the first `labels` columns hold words."""
    body = "\n\\midrule\n".join("\n".join(map(_line, block)) for block in blocks)
    columns = "l" * labels + "r" * (len(blocks[0][0]) - labels)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{caption}}}",
            f"\\label{{{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            f"\\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *heads,
            r"\midrule",
            body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
