"""leaderboard.html, leaderboard.csv and leaderboard.json."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from advfool.auditing.leaderboard.entries import read_entries
from advfool.auditing.leaderboard.tables import Ranking, as_csv, as_json, rankings
from advfool.auditing.page import interval, percent
from advfool.utilities.files import write_json
from advfool.utilities.stored import free_path
from advfool.utilities.text import printable

HTML, CSV, JSON = "leaderboard.html", "leaderboard.csv", "leaderboard.json"


def write_leaderboard(audits: Sequence[str], output: Path) -> Path:
    """Join audits into a page and two tables.

    Args:
        audits: their folders, folders that they lie in at any depth, or patterns such as `runs/audit/*`.
        output: the folder that leaderboard.html, leaderboard.csv and leaderboard.json are written to.

    Returns:
        the path of the page.

    Raises:
        AdvfoolError: there is no audit, some cannot be read (the message names each), or a link leads out of `output`.
    """
    tables = rankings(read_entries(audits, output))
    output.mkdir(parents=True, exist_ok=True)
    page = free_path(output, HTML)
    write_json(free_path(output, JSON), as_json(tables))
    free_path(output, CSV).write_text(as_csv(tables), encoding="utf-8")
    page.write_text(leaderboard_page(tables), encoding="utf-8")
    return page


def leaderboard_page(tables: Sequence[Ranking]) -> str:
    """Make the page; everything from a file is escaped.

    Args:
        tables: the rankings.

    Returns:
        HTML that loads nothing.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "interval": interval, "printable": printable}
    script = _source("leaderboard.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.from_string(_source("leaderboard.html.j2"))
    return template.render(tables=tables, script=Markup(script), digest=digest)


def _source(name: str) -> str:
    return files("advfool.auditing.leaderboard").joinpath(name).read_text(encoding="utf-8").strip()
