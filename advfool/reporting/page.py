"""report.html: one page that contains everything it needs and loads nothing from a network."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from advfool.reporting import wording
from advfool.reporting.encoding import Gallery, colour_scales
from advfool.reporting.headline import by_fooling, headline
from advfool.reporting.paper.tables import MEANING, PaperTable
from advfool.reporting.plots import aopc_figure, tradeoff_figure, training_figure, transfer_figure
from advfool.reporting.rows import Row
from advfool.reporting.transfer import transfers
from advfool.reporting.views import RunView, aopc_curves, history
from advfool.utilities.text import printable


def page(folder: Path, views: Sequence[RunView], rows: Sequence[Row], tables: Sequence[PaperTable]) -> str:
    """Make the page.

    Args:
        folder: where the runs were found.
        views: of all runs.
        rows: of all runs.
        tables: the paper's tables that the runs have numbers for.

    Returns:
        the page as HTML.
    """
    templates, data = _environment(), page_data(views, rows)
    by_name = {view.run.name: view for view in views}
    scripts = _script(get_plotlyjs()), _script(_source("report.js"))
    return templates.get_template("report.html.j2").render(
        folder=printable(folder.resolve()),
        name=printable(folder.resolve().name),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=version("advfool"),
        summary=headline(rows),
        foolings=by_fooling(rows),
        tables=tables,
        views=views,
        by_name=by_name,
        networks_of=networks_of,
        views_of=lambda cell: [by_name[name] for name in cell.runs if name in by_name],
        data=data,
        drawn={run["anchor"] for run in data["runs"]},
        style=Markup(_source("report.css")),
        scripts=scripts,
        hashes=[_digest(text) for text in scripts],
    )


def networks_of(table: PaperTable) -> list[tuple[str, int]]:
    """List the networks above the columns of a table, with the number of columns of each."""
    return [(network, len(list(columns))) for network, columns in groupby(network for network, _ in table.columns)]


def page_data(views: Sequence[RunView], rows: Sequence[Row]) -> dict[str, Any]:
    """Collect what the page's script draws: figures, pictures and heatmaps."""
    anchors = {view.run.name: view.anchor for view in views}
    gallery = Gallery([view.run for view in views])
    runs = [found for view in views if (found := _run_data(view, gallery))]
    matrices = [
        {
            "model": matrix.model,
            "fooling": wording.fooling(matrix.fooling),
            "figure": transfer_figure(matrix, anchors),
        }
        for matrix in sorted(transfers(rows), key=lambda matrix: (matrix.model, wording.rank(matrix.fooling)))
    ]
    return {
        "transfer": matrices,
        "tradeoff": tradeoff_figure(rows, anchors),
        "runs": runs,
        "pictures": list(gallery.pictures),
        "scales": colour_scales(),
    }


def _run_data(view: RunView, gallery: Gallery) -> dict[str, Any] | None:
    """Collect the curves and examples of a run; None where it has written nothing to show."""
    logged, curves, examples = history(view.run), aopc_curves(view.run), gallery.add(view.run)
    interps = dict.fromkeys(name.split("/")[0] for name in curves if name.count("/") == 2)
    aopc = [{"interp": wording.interp(name), "figure": aopc_figure(curves, name)} for name in interps]
    training = training_figure(logged)
    if not (training or aopc or examples):
        return None
    row = view.row
    return {
        "anchor": view.anchor,
        "title": view.title,
        "model": row["model"],
        "fooling": wording.fooling(row["fooling"]),
        "interp": wording.interp(row["interp"]),
        "run": view.label,
        "training": training,
        "aopc": aopc,
        "gallery": examples,
    }


def _environment() -> Environment:
    """Make the template engine: it escapes all text, and JSON cannot close its script element."""
    environment = Environment(
        loader=PackageLoader("advfool.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.globals |= {"wording": wording, "meaning": MEANING}
    return environment


def _source(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text()


def _script(text: str) -> Markup:
    """Mark a script as safe to be written into the page unchanged."""
    if "</script" in text:
        raise ValueError("A script that contains '</script' would end early inside a page.")
    return Markup(text)


def _digest(text: str) -> str:
    """Return the digest by which the page's security policy allows a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
