"""`python -m advfool.report runs=FOLDER`: gathers runs into a page, Markdown, LaTeX and a table of results."""

from pathlib import Path

from omegaconf import DictConfig

from advfool.commands.cli import command


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Writes the report of all runs in a folder, finished or not, into `output` (None: the same folder).

    Leaves report.html, report.md, tables.tex, results.parquet and results.csv, and returns the page's path.

    Raises:
        AdvfoolError: there is no such folder, or no run in it.
    """
    from advfool.reporting.writing import write_all

    return write_all(folder, output)


@command("report")
def main(cfg: DictConfig) -> None:
    """Writes the report and says where it is."""
    from rich.console import Console

    page = write_report(Path(cfg.runs), Path(cfg.output))
    Console(highlight=False, soft_wrap=True).print(f"The report: {page}", markup=False)


if __name__ == "__main__":
    main()
