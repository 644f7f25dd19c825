"""report.md: the main numbers and the tables as Markdown, for a repository or a pull request."""

from collections.abc import Sequence
from pathlib import Path

from advfool.reporting import wording
from advfool.reporting.headline import Headline, by_fooling, headline
from advfool.reporting.paper.tables import MEANING, Cell, PaperTable
from advfool.reporting.rows import Row
from advfool.reporting.views import RunView

Lines = list[str]
NOTE = (
    "95 % intervals over the images in square brackets. FSR (null): in round brackets the highest FSR of the controls, "
    "which are no attacks. Deceptive rate: of the images with an honest explanation to lose, the share deceived. "
    "Their number follows. Gate: the share of composites on which both original maps point into their own tiles."
)


def markdown_report(folder: Path, views: Sequence[RunView], rows: Sequence[Row], tables: Sequence[PaperTable]) -> str:
    """Write the report.

    Args:
        folder: where the runs were found.
        views: of all runs.
        rows: of all runs.
        tables: the paper's tables that the runs have numbers for.
    """
    parts = [
        [f"# Report of {wording.markdown(folder.resolve().name)}"],
        _summary(headline(rows)),
        _broken(views),
        _foolings(by_fooling(rows)),
        *(_published(table) for table in tables),
        _runs(views),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _summary(found: Headline) -> Lines:
    states = ", ".join(f"{count} {state}" for state, count in found.states.items() if count)
    lines = [f"{wording.plural(found.runs, 'run')}: {states}."]
    if found.fsr:
        lines.append(
            f"FSR under the interpreter trained with, median {wording.percent(found.fsr.median)} %, lowest "
            f"{wording.percent(found.fsr.low['fsr'])} %, highest {wording.percent(found.fsr.high['fsr'])} %; at least "
            f"50 % in {found.enough} of {wording.plural(found.measured, 'run')}."
        )
    if found.null:
        lines.append(
            f"FSR (null), what it would be without an attack, median {wording.percent(found.null.median)} %, at most "
            f"{wording.percent(found.null.high['fsr_null'])} %."
        )
    if found.deceptive:
        lines.append(
            f"Deceptive rate, median {wording.percent(found.deceptive.median)} %, lowest "
            f"{wording.percent(found.deceptive.low['deceptive_rate'])} %, highest "
            f"{wording.percent(found.deceptive.high['deceptive_rate'])} %."
        )
    if found.transfer is not None:
        parts = [f"FSR (null) {wording.with_null(found.transfer, found.transfer_null)} %"]
        if found.transfer_deceptive is not None:
            parts.append(f"deceptive rate {wording.percent(found.transfer_deceptive)} %")
        lines.append(f"Under the other interpreters, medians: {', '.join(parts)}.")
    if found.drop:
        largest = found.drop.high["accuracy_drop_top1"]
        lines.append(
            f"Top-1 accuracy lost, median {wording.percent(found.drop.median, 2)} points, at most "
            f"{wording.percent(largest, 2)}."
        )
    return lines


def _broken(views: Sequence[RunView]) -> Lines:
    broken = [view for view in views if view.run.state != "finished"]
    if not broken:
        return []
    return [
        "## Failed and unfinished runs",
        "",
        *(
            f"- {wording.markdown(view.run.name)}: {view.run.state}"
            + (f". {wording.markdown(view.run.error)}" if view.run.error else "")
            for view in broken
        ),
    ]


def _foolings(parts: Sequence[Headline]) -> Lines:
    heads = ["Fooling", "runs", "FSR (null) (%), median", "FSR, lowest to highest", "deceptive rate (%), median"]
    heads += ["misdirected rate (%), median", "top-1 drop (points), median", "largest"]
    lines = []
    for part in parts:
        fsr, drop = part.fsr, part.drop
        lines.append(
            [
                wording.markdown(wording.fooling(part.name)),
                str(part.measured),
                wording.with_null(fsr.median, part.null.median if part.null else None) if fsr else "",
                wording.percent_interval(fsr.low["fsr"], fsr.high["fsr"]) if fsr else "",
                wording.percent(part.deceptive.median) if part.deceptive else "",
                wording.percent(part.misdirected.median) if part.misdirected else "",
                wording.percent(drop.median, 2) if drop else "",
                wording.percent(drop.high["accuracy_drop_top1"], 2) if drop else "",
            ]
        )
    return ["## By fooling", "", *_table(heads, lines, 1)]


def _published(table: PaperTable) -> Lines:
    columns = [f"{network} {wording.word(kind)}" for network, kind in table.columns]
    heads = [wording.markdown(head) for head in (*map(wording.word, table.heads), *columns)]
    words = {label: wording.markdown(wording.word(label)) for row in table.rows for label in row.labels}
    lines = [[*(words[label] for label in row.labels), *map(_cell, row.cells)] for row in table.rows]
    title = f"## {wording.word(table.name)}. {wording.markdown(table.title)} ({wording.markdown(table.unit)})"
    note = (
        "Our numbers, means over the runs; 95 % intervals over the runs (by t, of three or more) and, apart from them, "
        "over the images; the published numbers in italics."
    )
    if table.has_nulls:
        note += f" {MEANING}"
    return [title, "", note, "", *_table(heads, lines, len(table.heads))]


def _cell(cell: Cell) -> str:
    parts = [wording.number(cell.ours)] if cell.ours is not None else []
    known = [
        f"{name} {wording.interval(*ends)}"
        for name, ends in (("runs", cell.interval), ("images", cell.images))
        if cell.ours is not None and ends
    ]
    parts += [f"({'; '.join(known)})"] if known else []
    parts += [f"{name} {wording.number(value)}" for name, value in cell.beside.items()]
    if cell.reported is not None:
        parts.append(f"*{wording.number(cell.reported)}*")
    return " ".join(parts)


def _runs(views: Sequence[RunView]) -> Lines:
    heads = ["Run", "model", "fooling", "trained with", "FSR (null) (%)", "deceptive rate (%)", "misdirected rate (%)"]
    heads += [
        "FSR rearranged (%)",
        "gate (%)",
        "top-1 drop (points)",
        "errors, times",
        "accuracy",
        "degenerate (%)",
        "state",
    ]
    lines = []
    for view in views:
        row = view.row
        lines.append(
            [
                f"[{wording.markdown(view.run.name)}]({view.address}/)",
                wording.markdown(row["model"]),
                wording.markdown(wording.fooling(row["fooling"])),
                wording.markdown(wording.interp(row["interp"])),
                _with_interval(row, "fsr", 1, null=row.get("fsr_null")),
                _share(row, "deceptive_rate", "n_deceptive"),
                _share(row, "misdirected_rate", "n_misdirected"),
                "" if row.get("fsr_rearranged") is None else wording.reach(row["fsr_rearranged"]),
                wording.percent(row.get("gate_pointing_both"), none=""),
                _with_interval(row, "accuracy_drop_top1", 2),
                _ratio(row),
                wording.markdown(row.get("accuracy_verdict") or ""),
                wording.percent(row.get("degenerate"), none=""),
                view.run.state,
            ]
        )
    return ["## Runs", "", NOTE, "", *_table(heads, lines, 4)]


def _ratio(row: Row) -> str:
    ends = wording.interval(row.get("accuracy_error_ratio_low"), row.get("accuracy_error_ratio_high"), 2)
    return wording.number(row.get("accuracy_error_ratio"), 2, none="") + (f" \\[{ends}\\]" if ends else "")


def _with_interval(row: Row, name: str, digits: int, null: float | None = None) -> str:
    ends = wording.percent_interval(row.get(f"{name}_low"), row.get(f"{name}_high"), digits)
    rate = wording.percent(row.get(name), digits, none="") if null is None else wording.with_null(row.get(name), null)
    return rate + (f" \\[{ends}\\]" if ends else "")


def _share(row: Row, name: str, of: str) -> str:
    """Write a rate with its interval and the number of images that it is a share of."""
    images = wording.count(row, of)
    if not images:
        return ""
    return f"{_with_interval(row, name, 1) or wording.TO} of {images}"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]], labels: int) -> Lines:
    """Write a table; its first `labels` columns hold words, the others numbers, which are aligned to the right."""
    rule = ["---"] * labels + ["---:"] * (len(heads) - labels)
    return [f"| {' | '.join(line)} |" for line in (heads, rule, *lines)]
