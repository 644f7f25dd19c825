"""report.html: one page that holds everything it needs and asks nothing of any network."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from advfool.reporting import wording
from advfool.reporting.encoding import Gallery, colour_scales
from advfool.reporting.headline import by_fooling, headline
from advfool.reporting.paper.tables import PaperTable
from advfool.reporting.plots import aopc_figure, tradeoff_figure, training_figure, transfer_figure
from advfool.reporting.rows import Row
from advfool.reporting.transfer import transfers
from advfool.reporting.views import RunView, aopc_curves, history


def page(folder: Path, views: Sequence[RunView], rows: Sequence[Row], tables: Sequence[PaperTable]) -> str:
    """The page of these runs, found in `folder`."""
    templates, data = _environment(), page_data(views, rows)
    by_name = {view.run.name: view for view in views}
    scripts = _script(get_plotlyjs()), _script(_source("report.js"))
    return templates.get_template("report.html.j2").render(
        folder=folder.resolve(),
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
    """The networks over the columns of a table, and how many columns each has."""
    return [(network, len(list(columns))) for network, columns in groupby(network for network, _ in table.columns)]


def page_data(views: Sequence[RunView], rows: Sequence[Row]) -> dict:
    """What the page's script draws: figures, pictures and heatmaps, by the run's anchor."""
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


def _run_data(view: RunView, gallery: Gallery) -> dict | None:
    """A run's curves and examples; None where it has left nothing to show."""
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
    """Everything that is written into the page is escaped; JSON cannot end its script element."""
    environment = Environment(
        loader=PackageLoader("advfool.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.globals["wording"] = wording
    return environment


def _source(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text()


def _script(text: str) -> Markup:
    """A script of ours or of a library, as it stands."""
    if "</script" in text:
        raise ValueError("A script that names its own end cannot be written into a page.")
    return Markup(text)


def _digest(text: str) -> str:
    """What the page's security policy knows a script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
