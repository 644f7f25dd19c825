"""The documentation: links and anchors lead somewhere, examples run, generated pages are up to date, the site builds."""

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import advfool

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
EXAMPLES = {  # pages whose examples run here, with what is put in the place of the page's own settings
    ROOT / "README.md": {"steps=600": "steps=4"},
    DOCS / "quickstart.md": {"steps=600": "steps=4"},
    DOCS / "interpreters.md": {},
    DOCS / "metrics.md": {},
    DOCS / "how_to" / "add_an_interpreter.md": {},
    DOCS / "how_to" / "add_a_fooling.md": {"steps=600": "steps=4"},
    DOCS / "how_to" / "add_a_metric.md": {},
    DOCS / "how_to" / "add_a_data_set.md": {"steps=600": "steps=4"},
}
FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:# @package _global_\n)?# ([\w/.]+\.(?:py|yaml))\b")


def page_name(page):
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else None


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub and MyST give to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_and_anchor_leads_somewhere(page):
    for address in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", address):
            continue
        path, _, anchor = address.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), address
        assert not anchor or anchor in slugs(target), address


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for page in DOCS.rglob("*.md"):
        for _, kind, text in FENCE.findall(page.read_text()):
            if kind.startswith("{toctree}"):
                names = (line for line in text.splitlines() if line and not line.startswith(":"))
                listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    assert listed == set(DOCS.rglob("*.md")) - {DOCS / "index.md"}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_tables_and_figures_are_those_of_the_records():
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for page, text in script.pages().items():
        assert page.read_text() == text, "run: python docs/make_results.py"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder as the working directory, importable from; what the examples register is forgotten again."""
    from advfool.metrics import METRICS
    from advfool.utilities import config

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(config, "_registered", [])
    modules, metrics = set(sys.modules), set(METRICS)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if name.startswith("my_"):
            del sys.modules[name]
    for name in set(METRICS) - metrics:
        del METRICS[name]


@pytest.mark.parametrize("page", EXAMPLES, ids=page_name)
def test_the_examples_run(page, workplace):
    blocks = [(kind, text) for _, kind, text in FENCE.findall(page.read_text()) if kind in ("python", "yaml")]
    whole = "".join(text for _, text in blocks)
    assert [given for given in EXAMPLES[page] if given not in whole] == []
    runnable = []
    for kind, text in blocks:
        for given, quick in EXAMPLES[page].items():
            text = text.replace(given, f"{quick}, max_accuracy_drop=1, accelerator='cpu', progress=False")
        if name := FILE.match(text):
            file = workplace / name[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif kind == "python":
            runnable.append(text)
    namespace = {"__name__": "example"}
    for text in runnable:
        exec(compile(text, str(page), "exec"), namespace)
    for file in workplace.glob("test_*.py"):
        for name, value in runpy.run_path(str(file)).items():
            if name.startswith("test_"):
                value()


def test_the_public_functions_are_in_the_reference():
    page = (DOCS / "api" / "advfool.md").read_text()
    assert [name for name in advfool.__all__ if f":: advfool.{name}\n" not in page] == []


def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
