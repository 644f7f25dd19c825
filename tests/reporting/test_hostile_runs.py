"""Reports of runs that a stranger wrote: their texts command nothing, and no file of theirs stops the report."""

import copy
import csv
import itertools
import json
import os
import random
import re

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from advfool.reporting.latex import latex_tables
from advfool.reporting.markdown import markdown_report
from advfool.reporting.page import page_data
from advfool.reporting.rows import result_rows, write_rows
from advfool.reporting.runs import find_runs
from advfool.reporting.views import run_views
from advfool.reporting.writing import tables_of, write_all
from advfool.utilities.errors import AdvfoolError
from tests.helpers.fake_runs import fake_run, write

BAD = [None, "", "x", -1, 10**15, 1e300, True, [], [1], [[1]], [1, "x", None], {}, {"x": 1}, {"gradcam": "x"}, "\ud800"]
TEXTS = ["<script>alert(1)</script>", "=1+1", "javascript:alert(1)", "../../x", "\x1b[2J\x07", "a\x00b", "\u202ex"]


def places(tree, path=()):
    """The paths of all values in a tree, the tree itself included."""
    yield path
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def changed(tree, path, value):
    if not path:
        return value
    tree = copy.deepcopy(tree)
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def some_of(pairs, count):
    """The whole product takes minutes."""
    return random.Random(0).sample(list(pairs), count)


def reported(folder):
    """Everything of a report but the page's frame, which costs a second."""
    runs = find_runs(folder)
    rows = result_rows(runs)
    tables, views = tables_of(runs), run_views(runs, rows, folder)
    write_rows(folder, rows)
    json.dumps(page_data(views, rows), allow_nan=False)
    texts = markdown_report(folder, views, rows, tables), latex_tables(rows, tables)
    assert all(view.config is not None and view.versions is not None for view in views)
    return "".join(texts).encode()


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "environment.json", "status.json", "aopc.json"])
def test_any_value_in_place_of_any_other_is_reported(tmp_path, name):
    folder = tmp_path / "hostile"
    fake_run(folder, fooling="active" if name == "metrics.json" else "location")
    fake_run(tmp_path / "other")
    write(folder, "status.json", {"outcome": "failed", "error": "x", "settings": {"a": 1}, "seconds": 1})
    path = folder / name
    content = yaml.safe_load(path.read_text())
    for place, value in some_of(itertools.product(places(content), BAD), 16):
        path.write_text(json.dumps(changed(content, place, value)))
        reported(tmp_path)


def test_any_value_in_an_example_is_reported(tmp_path):
    fake_run(tmp_path / "run")
    path = tmp_path / "run" / "examples.safetensors"
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for place, value in some_of(itertools.product(places(about), BAD), 16):
        save_file(tensors, path, {"about": json.dumps(changed(about, place, value))})
        reported(tmp_path)
    others = [torch.zeros(0), torch.zeros(4, 1, 0, 7), torch.zeros(4, 3, 56, 56), torch.full((4, 1, 7, 7), torch.nan)]
    for name in ("images", "maps/gradcam/original", "test_loss/gradcam/manipulated"):
        for other in (*others, torch.zeros(4, 1, dtype=torch.int64)):
            save_file(tensors | {name: other}, path, {"about": json.dumps(about)})
            reported(tmp_path)
        save_file({key: value for key, value in tensors.items() if key != name}, path, {"about": json.dumps(about)})
        reported(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "step\n", "\x00", "step,a\n" + "9" * 400 + ",1\n", "step,val/top1\n-1,1\n1,inf\n2,nan\n", "step,a\nx,1\n"],
)
def test_any_log_is_reported(tmp_path, text):
    fake_run(tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").write_text(text)
    (tmp_path / "run" / "metrics.x.csv").write_text(text)
    reported(tmp_path)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_strangers_are_shown_as_texts(tmp_path, text):
    fake_run(tmp_path / "run", model=text, fooling=text, interp=text, name=text)
    fake_run(tmp_path / "failed")
    (tmp_path / "failed" / "metrics.json").unlink()
    write(tmp_path / "failed", "status.json", {"error": text})
    write(tmp_path / "run", "environment.json", {"command": text, "commit": text, "versions": {text: text}})
    page = write_all(tmp_path).read_text()
    assert "<script>alert" not in page
    assert not re.search(r"href=.javascript", page)
    for name in ("report.html", "report.md", "tables.tex", "results.csv"):
        written = (tmp_path / name).read_text()
        assert not {"\x1b", "\x07", "\x00", "\u202e"} & set(written), name
    with (tmp_path / "results.csv").open(newline="") as file:
        assert not [value for row in csv.reader(file) for value in row if value[:1] in "=@" and value]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " =", "\x1b[0m=", "\uff1d"])
def test_cells_of_tables_are_no_formulas(tmp_path, start):
    formula = f'{start}HYPERLINK("http://example.org","x")'
    fake_run(tmp_path / "run", model=formula, drop=-0.01)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    write(tmp_path / "run", "metrics.json", metrics | {formula: 1})
    rows = result_rows(find_runs(tmp_path))
    write_rows(tmp_path, rows)
    with (tmp_path / "results.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    cells = [value for line in (head, *lines) for value in line]
    assert not [value for value in cells if value.lstrip()[:1] in "=+@\uff1d" and value.strip()]
    assert lines[0][head.index("accuracy_drop_top1")] == "-0.01"
    assert {value for value in cells if value.startswith("-")} == {"-0.01", "-0.012", "-0.008", "-0.2"}


@pytest.mark.parametrize("name", ["report.html", "report.md", "tables.tex", "results.csv", "results.parquet"])
@pytest.mark.parametrize("kind", ["file", "nothing", "pipe"])
def test_a_report_is_not_written_through_links(tmp_path, name, kind):
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    fake_run(runs / "run")
    if kind == "pipe":
        os.mkfifo(runs / name)
    else:
        (runs / name).symlink_to(outside)
    if kind == "file":
        outside.write_text("mine")
    with pytest.raises(AdvfoolError, match=name.replace(".", r"\.")):
        write_all(runs)
    assert outside.exists() == (kind == "file")
    assert kind != "file" or outside.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["metrics.json", "config.yaml", "environment.json", "aopc.json", "metrics.csv", "examples.safetensors"]
)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_files_outside_of_a_run_are_not_shown(tmp_path, name, kind):
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    fake_run(runs / "run", name="the secret")
    fake_run(runs / "other")
    (runs / "run" / name).rename(outside)
    if kind == "pipe":
        os.mkfifo(runs / "run" / name)
    else:
        (runs / "run" / name).symlink_to(outside)
    others = [path for path in (runs / "run").iterdir() if path.name != name]
    for path in others:
        path.write_bytes(path.read_bytes().replace(b"the secret", b"the public"))
    assert b"the secret" not in reported(runs)


def test_names_that_differ_only_in_what_is_not_shown_stay_different(tmp_path):
    for number, name in enumerate(["a", "a\x1b[0m", "a\x1b[1m", b"a\xff".decode(errors="surrogateescape")]):
        fake_run(tmp_path / name, seed=number)
    names = [run.name for run in find_runs(tmp_path)]
    assert len(set(names)) == 4
    assert write_all(tmp_path).is_file()
