"""Everywhere an FSR is shown, what it would be without an attack and the deceptive rate stand beside it."""

import json
import re
from dataclasses import replace

import pytest

from advfool.reporting.latex import latex_tables
from advfool.reporting.paper import paper_tables
from advfool.reporting.paper.publish import _rates
from advfool.reporting.paper.record import as_markdown, of_table
from advfool.reporting.plots import tradeoff_figure, transfer_figure
from advfool.reporting.rows import result_rows
from advfool.reporting.transfer import transfers
from advfool.reporting.writing import write_all
from tests.helpers.fake_runs import fake_run, with_nulls
from tests.helpers.runs import a_run, grid


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """The files of a report on a run with nulls, one without them, and an active one."""
    folder = tmp_path_factory.mktemp("runs")
    for name, fooling in (("new", "location"), ("old", "topk"), ("active", "active")):
        fake_run(folder / name, fooling=fooling)
        path = folder / name / "metrics.json"
        if name != "old":
            path.write_text(json.dumps(with_nulls(json.loads(path.read_text()), 0.432, 0.123)))
    write_all(folder)
    return {name: (folder / name).read_text() for name in ("report.html", "report.md", "tables.tex", "results.csv")}


def test_the_pages_tables_have_null_deceptive_rate_with_interval_and_number_and_the_gate(texts):
    page = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", texts["report.html"].split("<script type")[0]))
    for text in ("FSR (null) (%)", "90.0 (12.3) [85.0 to 95.0]", "43.2 [38.2 to 48.2] of 20", "10.8 of 25"):
        assert text in page
    assert "Gate: before training, 50.0 % of the composites" in page
    assert "below 80 %, the swap means nothing" in page
    assert "20 + 21" in page


def test_the_markdown_report_has_them(texts):
    new, old, active = (
        next(line for line in texts["report.md"].splitlines() if f"({name}/)" in line)
        for name in ("new", "old", "active")
    )
    assert r"| 90.0 (12.3) \[85.0 to 95.0\] | 43.2 \[38.2 to 48.2\] of 20 | 10.8 of 25 |" in new
    assert r"| 90.0 \[85.0 to 95.0\] |  |  |" in old
    assert "| 67.5 (12.3) | 32.4 of 20 + 21 |" in active
    assert "| 50.0 |" in active


def test_latex_and_the_table_of_results_have_them(texts):
    assert "90.0 (12.3); 43.2" in texts["tables.tex"]
    heads = texts["results.csv"].splitlines()[0]
    for name in (
        "fsr_null",
        "fsr_null_control",
        "deceptive_rate",
        "n_deceptive",
        "misdirected_rate",
        "faithful_before",
    ):
        assert f'"{name}"' in heads


def test_paper_tables_have_the_means_over_the_runs_that_have_them():
    runs = [replace(run, metrics=with_nulls(run.metrics, 0.5, 0.1)) for run in grid()[:2]] + grid()[2:]
    table = paper_tables(runs)[0]
    assert "| location | lrp_t | 93.0; null 10.0, deceptive 50.0 (0.8) |" in as_markdown(table)
    assert "null: the highest FSR of the controls" in as_markdown(table)
    cell = of_table(table)["rows"][0]["cells"]["vgg_tiny gradcam"]
    assert (cell["null"], cell["deceptive"]) == pytest.approx((10, 50))
    assert not paper_tables(grid())[0].has_nulls
    rates = _rates(runs)
    assert rates["deceptive_rate"] == {"0": 0.5, "1": 0.5, "2": None}
    assert " (10.0); 50.0 / 0.8" in latex_tables([], [table])


def test_active_tables_have_those_of_each_class():
    run = a_run(fooling="active")
    table = paper_tables([replace(run, metrics=with_nulls(run.metrics, 0.5, 0.1))])[0]
    shown = {row.labels: row.cells[0].beside for row in table.rows if row.cells[0].beside}
    assert shown == {("lrp_t", "c1"): {"null": 10, "deceptive": 50}, ("lrp_t", "c2"): {"null": 10, "deceptive": 25}}


def test_plots_and_their_texts_have_them():
    run = a_run()
    accuracy = run.metrics["accuracy"] | {"drop": {"top1": 0.01, "ci95": None}}
    chosen_by = {"fsr": {run.interp: 0.9}, "accuracy": {"drop": 0.0}}
    metrics = run.metrics | {"accuracy": accuracy, "selection": chosen_by}
    rows = result_rows([replace(run, metrics=with_nulls(metrics, 0.5, 0.1))])
    anchors = {run.name: "run-1"}
    matrix = transfer_figure(transfers(rows)[0], anchors)
    assert matrix["data"][0]["text"][0][0] == "90.0<br>null 10.0<br>deceptive 50.0"
    assert "null 10.0 % deceptive 50.0 %" in matrix["alt"]
    assert "(null 10.0 %, deceptive 50.0 %)" in tradeoff_figure(rows, anchors)["alt"]
    plain = transfer_figure(transfers(result_rows([run]))[0], anchors)
    assert plain["data"][0]["text"][0][0] == "90.0"


def test_every_line_of_the_pages_tables_has_a_cell_below_each_head(texts):
    page = texts["report.html"].split("<script type")[0]
    for table in re.findall("<table.*?</table>", page, flags=re.DOTALL):
        if "rowspan" not in table:
            heads, body = table.split("<tbody>")
            lines = re.findall("<tr.*?</tr>", body, flags=re.DOTALL)
            assert {len(re.findall("<t[hd][ >]", line)) for line in lines} == {len(re.findall("<th[ >]", heads))}
