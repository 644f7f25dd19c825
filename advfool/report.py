"""`python -m advfool.report runs=FOLDER`: gathers runs into a page, Markdown, LaTeX and a table of results."""

from pathlib import Path

from omegaconf import DictConfig

from advfool.commands.cli import command


@command("report")
def main(cfg: DictConfig) -> None:
    """Write the report and say where it is."""
    from rich.console import Console

    from advfool.reporting.writing import write_all

    page = write_all(Path(cfg.runs).expanduser(), Path(cfg.output).expanduser())
    Console(highlight=False, soft_wrap=True).print(f"The report: {page}", markup=False)


if __name__ == "__main__":
    main()
