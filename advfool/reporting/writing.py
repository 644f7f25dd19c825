"""The files of a report, written from a folder of runs."""

from collections.abc import Sequence
from pathlib import Path

from advfool.reporting.latex import latex_tables
from advfool.reporting.markdown import markdown_report
from advfool.reporting.page import page
from advfool.reporting.paper.tables import PaperTable, paper_tables
from advfool.reporting.rows import result_rows, write_rows
from advfool.reporting.runs import Run, find_runs
from advfool.reporting.views import run_views
from advfool.utilities.stored import free_path


def write_all(folder: Path, output: Path | None = None) -> Path:
    """Write report.html, report.md, tables.tex, results.parquet and results.csv.

    Args:
        folder: where the runs are searched.
        output: where the files are written to; None: into `folder`.

    Returns:
        the path of report.html.

    Raises:
        AdvfoolError: there is no such folder, no run in it, or a link leads from a file's name out of the folder.
    """
    folder = folder.expanduser()
    output = folder if output is None else output.expanduser()
    runs = find_runs(folder)
    output.mkdir(parents=True, exist_ok=True)
    rows, tables = result_rows(runs), tables_of(runs)
    views = run_views(runs, rows, output)
    write_rows(output, rows)
    free_path(output, "report.md").write_text(markdown_report(folder, views, rows, tables))
    free_path(output, "tables.tex").write_text(latex_tables(rows, tables))
    path = free_path(output, "report.html")
    path.write_text(page(folder, views, rows, tables))
    return path


def tables_of(runs: Sequence[Run]) -> list[PaperTable]:
    """Make the paper's tables that these runs have numbers for; runs whose files lack such numbers are left out."""
    return paper_tables([run for run in runs if run.state == "finished" and _readable(run)])


def _readable(run: Run) -> bool:
    try:
        paper_tables([run])
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
        return False
    return True
