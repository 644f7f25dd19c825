"""Sphinx: the documentation site, built by `make docs` without a network connection."""

import re
from collections.abc import Iterator
from importlib.metadata import version as installed_version

project = "advfool"
author = "The advfool authors"
project_copyright = "2026, the advfool authors"
version = release = installed_version("advfool")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4  # pages link to headings, as on GitHub
suppress_warnings = ["myst.header"]  # the change log begins below the page's own heading
html_theme = "furo"
html_title = "advfool"
html_show_sourcelink = False
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "notes_style")]
napoleon_use_ivar = True
maximum_signature_line_length = 100

LITERAL = re.compile(r"(``.+?``|`[^`]+`)")


def setup(app) -> None:
    """Connect the conversion of docstrings, ahead of napoleon."""
    app.connect("autodoc-process-docstring", plain_to_rst, priority=100)


def plain_to_rst(app, what, name, obj, options, lines: list[str]) -> None:
    """Turn docstrings that write `code` between single backticks into reStructuredText, in place."""
    lines[:] = list(_escaped(lines))


def _escaped(lines: list[str]) -> Iterator[str]:
    """Yield the lines with code as literals and without markup; examples after `>>>` stay as they are."""
    example = False
    for line in lines:
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        yield line if example else _as_rst(line)


def _as_rst(line: str) -> str:
    parts = LITERAL.split(line)
    parts[::2] = [re.sub(r"([*|\\`]|_\b)", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"``{part.strip('`')}``" for part in parts[1::2]]
    for i in range(2, len(parts), 2):  # a literal must not touch a letter, as in `Sample`s
        parts[i] = re.sub(r"^(?=\w)", r"\\ ", parts[i])
    return "".join(parts)
