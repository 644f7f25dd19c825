"""The files of a report."""

import re

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from advfool.reporting.latex import latex_tables
from advfool.reporting.runs import find_runs
from advfool.reporting.writing import tables_of, write_all
from advfool.utilities.errors import AdvfoolError
from tests.helpers.command import run_here
from tests.helpers.fake_runs import fake_run, write

FILES = {"report.html", "report.md", "tables.tex", "results.parquet", "results.csv"}


def test_the_table_of_results_is_the_rows(sweep, rows):
    table = pq.read_table(sweep / "results.parquet").to_pylist()
    assert len(table) == len(rows)
    for written, row in zip(table, rows, strict=True):
        assert {name: value for name, value in written.items() if value is not None} == {
            name: value for name, value in row.items() if value is not None
        }
    assert pyarrow.csv.read_csv(sweep / "results.csv")["fsr"].to_pylist() == [row.get("fsr") for row in rows]


def test_markdown_and_latex_hold_the_tables_and_names_as_they_are(sweep):
    text = (sweep / "report.md").read_text()
    assert "8 runs: 6 finished, 1 failed, 1 unfinished." in text
    assert "## Table 1. " in text
    assert "<script>" not in text
    assert '&lt;script&gt;alert(1)&lt;/script&gt;&amp;"' in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    tex = (sweep / "tables.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1 + len(tables_of(find_runs(sweep)))
    assert r"\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{}\&" in tex
    for line in tex.splitlines():
        if line.endswith(r"\\") and line.startswith("resnet"):
            assert line.count("&") - line.count(r"\&") == 7
    assert latex_tables([], []).startswith("% Written by")


def test_a_report_can_lie_elsewhere_and_links_back(sweep, tmp_path):
    page = write_all(sweep, tmp_path / "out" / "report")
    assert {path.name for path in page.parent.iterdir()} == FILES
    links = re.findall(r'href="([^"]+/)">Folder', page.read_text())
    assert len(links) == 8
    assert (page.parent / links[-1]).resolve().is_dir()


def test_runs_of_an_older_format_are_reported(tmp_path):
    fake_run(tmp_path / "old")
    for name in ("aopc.json", "examples.safetensors", "metrics.csv", "environment.json"):
        (tmp_path / "old" / name).unlink()
    write(tmp_path / "old", "metrics.json", {"fsr": {"gradcam": 0.7}, "accuracy": {"original": {"top1": 0.9}}})
    assert ">70.0</a>" in write_all(tmp_path).read_text()


def test_a_folder_without_finished_runs_is_reported(tmp_path):
    fake_run(tmp_path / "broken")
    (tmp_path / "broken" / "metrics.json").unlink()
    text = write_all(tmp_path).read_text()
    assert "No run has finished yet." in text
    assert "unfinished" in text


def test_the_command_says_where_the_report_is_and_leaves_nothing_else(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("advfool.report", [f"runs='{sweep}'", "output=out"])
    assert done.returncode == 0, done.stderr
    assert "The report: out/report.html" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    empty = run_here("advfool.report", ["runs=out"])
    assert empty.returncode == 1
    assert "error: runs=out: expected training runs (folders with a config.yaml), found none." in empty.stderr
    with pytest.raises(AdvfoolError, match="found no such folder"):
        write_all(tmp_path / "nowhere")
