"""The report of a folder of runs: its rows and files, and the page in a real browser."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import save_file
from test_training import run_here

from advfool.report import write_report
from advfool.reporting import encoding as gallery
from advfool.reporting import plots, wording
from advfool.reporting.headline import by_fooling, headline
from advfool.reporting.latex import latex_tables
from advfool.reporting.page import page_data
from advfool.reporting.rows import _of_interp, matched, result_rows
from advfool.reporting.runs import find_runs
from advfool.reporting.transfer import transfers
from advfool.reporting.views import run_views
from advfool.reporting.writing import tables_of
from advfool.utilities.errors import AdvfoolError

NASTY = '<script>alert(1)</script>&"'
INTERPS = ("gradcam", "lrp_t", "lrp")
BROKEN = f"broken-{'off-' * 20}"  # a long name
FILES = {"report.html", "report.md", "tables.tex", "results.parquet", "results.csv"}
NETWORKS = ("original", "manipulated")


# ---- Runs that were never trained


def fake_run(folder, model="resnet_tiny", fooling="location", interp="gradcam", seed=0, fsr=0.9, drop=0.01, name="3"):
    """A folder as a finished run leaves it, with made-up numbers. name: of a class."""
    folder.mkdir(parents=True)
    interps = list(dict.fromkeys([interp, *INTERPS]))
    config = {
        "seed": seed,
        "fool_weight": 4,
        "target": "label",
        "model": {"name": model},
        "fooling": {"name": fooling},
        "interp": {"name": interp},
        "evaluate_with": {other: {"name": other} for other in interps},
        "optimizer": {"lr": 1e-3},
        "trainer": {"max_steps": 60},
        "data": {"_target_": "advfool.data.DigitsModule", "batch_size": 64, "pair": [name, "8"]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    active = fooling == "active"
    rates = {other: fsr if other == interp else 0.1 for other in interps}
    write(folder, "metrics.json", fake_metrics(rates, drop, active, name))
    write(folder, "environment.json", {"command": f"python -m advfool.train {name}", "versions": {"torch": "2"}})
    lines = ["epoch,step,train/penalty,train/preserve,val/fsr/gradcam,val/top1", "0,0,,,0.0,0.98"]
    lines += [f"0,{step},{0.5 / step},{0.01 * step}," + ("," if step % 3 else "0.5,0.97") for step in range(1, 30)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    sources = [(network, source) for network in NETWORKS for source in NETWORKS]
    curves = {f"{interp}/{network}/{source}": [0, 0.2, 0.4] for network, source in sources}
    write(folder, "aopc.json", curves | {f"{network}/random": [0, 0.1, 0.2] for network in NETWORKS})
    fake_examples(folder, interps, active, name)


def fake_metrics(rates, drop, active, name):
    def both(value):
        return {"c1": value, "c2": value} if active else value

    def of_all(value):
        return {other: both(value) for other in rates}

    accuracy = {"original": {"top1": 0.98, "top5": 1.0}, "manipulated": {"top1": 0.98 - drop, "top5": 1.0}}
    if active:
        accuracy = {network: rate | {"c1": 0.9, "c2": 0.8} for network, rate in accuracy.items()}
    metrics = {
        "fsr": {other: {"c1": rate, "c2": rate / 2} if active else rate for other, rate in rates.items()},
        "fsr_before": of_all(0.0),
        "degenerate": of_all(0.05),
        "spearman": of_all(-0.2),
        "test_loss": {other: {network: both(0.3) for network in NETWORKS} for other in rates},
        "accuracy": accuracy | {"drop": {"top1": drop, "ci95": [drop - 0.002, drop + 0.002]}},
        "interval": [0, 0.2],
        "evaluate_with": list(rates),
        "n_images": 100,
        "steps": 60,
    }
    metrics["ci95"] = {"fsr": {other: both([rate - 0.05, rate + 0.05]) for other, rate in rates.items()}}
    if not active:
        metrics["fsr_by_class"] = {other: {name: 0.5} for other in rates}
    return metrics


def fake_examples(folder, interps, active, name):
    generator = torch.Generator().manual_seed(0)
    classes, losses = 2 if active else 1, torch.tensor([[0.3], [0.1], [torch.nan], [0.15]])
    tensors = {"images": torch.randint(0, 255, (4, 3, 56, 56), dtype=torch.uint8, generator=generator)}
    for interp in interps:
        shape = (4, classes, 56, 56) if interp == "lrp" else (4, classes, 7, 7)
        for network in NETWORKS:
            maps = torch.rand(shape, generator=generator) * 2 - 1
            tensors[f"maps/{interp}/{network}"] = (maps if interp == "lrp" else maps.relu()).half()
            tensors[f"test_loss/{interp}/{network}"] = losses.repeat(1, classes)
    said = dict.fromkeys(NETWORKS, (name, 0.75))
    roles = (("median",), ("best",), ("worst",), ("fixed",))
    rows = [
        {
            "index": 10 + place,
            "kind": "composite" if active else "image",
            "path": f"{name}.jpg",
            "label": name,
            "explained": [name, "8"][:classes],
            "predictions": said,
            "roles": own,
        }
        for place, own in enumerate(roles)
    ]
    about = {"rows": rows, "interps": interps, "interval": [0, 0.2]}
    save_file(tensors, folder / "examples.safetensors", {"about": json.dumps(about)})


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


def fake_sweep(folder):
    """Finished, failed and broken-off runs: two models, two seeds, passive and active, and one of nasty names."""
    fake_run(folder / "a", fooling="location", fsr=0.9, drop=0.01)
    fake_run(folder / "b", fooling="location", seed=1, fsr=0.8, drop=0.02)
    fake_run(folder / "c", fooling="location", interp="lrp_t", fsr=0.4, drop=0.0)
    fake_run(folder / "d", model="vgg_tiny", fooling="topk", fsr=1.0, drop=0.03)
    fake_run(folder / "e", fooling="active", fsr=0.6, drop=0.004)
    fake_run(folder / NASTY, model=NASTY, fooling="topk", interp="lrp", fsr=0.3, drop=0.05, name=NASTY)
    fake_run(folder / "failed", fooling="topk")
    for name in ("metrics.json", "aopc.json", "examples.safetensors", "metrics.csv"):
        (folder / "failed" / name).unlink()
    write(folder / "failed", "status.json", {"outcome": "failed", "error": f"Diverged {NASTY}. Lower optimizer.lr."})
    fake_run(folder / BROKEN)
    for name in ("metrics.json", "aopc.json", "examples.safetensors", "metrics.csv"):
        content = (folder / BROKEN / name).read_bytes()
        (folder / BROKEN / name).write_bytes(content[: len(content) // 2])
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = fake_sweep(tmp_path_factory.mktemp("sweep"))
    assert write_report(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def rows(sweep):
    return result_rows(find_runs(sweep))


# ---- Numbers


def test_there_is_a_row_for_each_run_and_interpreter(rows):
    assert len(rows) == 8 * len(INTERPS)
    row = next(row for row in rows if row["run"] == "a")
    assert (row["state"], row["model"]) == ("finished", "resnet_tiny")
    assert (row["fooling"], row["interp"]) == ("location", "gradcam")
    assert (row["seed"], row["fool_weight"], row["lr"], row["max_steps"], row["steps"]) == (0, 4, 0.001, 60, 60)
    assert (row["fsr"], row["fsr_low"], row["fsr_high"]) == pytest.approx((0.9, 0.85, 0.95))
    assert (row["accuracy_drop_top1"], row["accuracy_drop_top1_low"]) == pytest.approx((0.01, 0.008))
    assert row["test_loss_manipulated"] == 0.3
    assert not any("by_class" in name or name.startswith("interval") for name in row)


def test_active_fooling_has_both_classes_and_their_mean(rows):
    row = next(row for row in matched(rows) if row["run"] == "e")
    assert (row["fsr_c1"], row["fsr_c2"], row["fsr"]) == pytest.approx((0.6, 0.3, 0.45))
    assert row["accuracy_original_c1"] == 0.9
    assert "accuracy_original" not in row


def test_half_finished_runs_have_rows_without_numbers(rows):
    for name, state in ((BROKEN, "unfinished"), ("failed", "failed")):
        own = [row for row in rows if row["run"] == name]
        assert [row["evaluated_with"] for row in own] == list(INTERPS)
        assert {row["state"] for row in own} == {state}
        assert all(row.get("fsr") is None for row in own)
    assert "Lower optimizer.lr" in own[0]["error"]


def test_the_table_of_results_is_the_rows(sweep, rows):
    table = pq.read_table(sweep / "results.parquet").to_pylist()
    assert len(table) == len(rows)
    for written, row in zip(table, rows, strict=True):
        assert {name: value for name, value in written.items() if value is not None} == {
            name: value for name, value in row.items() if value is not None
        }
    assert pyarrow.csv.read_csv(sweep / "results.csv")["fsr"].to_pylist() == [row.get("fsr") for row in rows]


def test_the_headline_names_the_best_and_the_worst(rows):
    found = headline(rows)
    assert found.states == {"finished": 6, "failed": 1, "unfinished": 1}
    assert (found.measured, found.enough) == (6, 3)
    assert found.fsr.median == pytest.approx((0.45 + 0.8) / 2)
    assert (found.fsr.low["run"], found.fsr.high["run"]) == (NASTY, "d")
    assert found.drop.high["run"] == NASTY
    assert found.transfer == pytest.approx(0.1)
    assert [part.name for part in by_fooling(rows)] == ["location", "topk", "active"]


def test_transfer_is_of_the_most_frequent_settings():
    cell = {
        "model": "m",
        "fooling": "location",
        "interp": "lrp_t",
        "evaluated_with": "gradcam",
        "lr": 0.1,
        "max_steps": 9,
    }
    rows = [cell | {"fool_weight": weight, "fsr": fsr} for weight, fsr in ((100, 0.1), (4, 0.9), (4, 0.7))]
    (matrix,) = transfers(rows)
    assert matrix.cells["lrp_t", "gradcam"].fsr == pytest.approx(0.8)


def test_what_is_told_of_several_quantities_and_interpreters_has_a_column_for_each_quantity():
    metrics = {"fsr": {"gradcam": 1.0, "lrp": 0.5}, "undefined": {"spearman": {"gradcam": 0.1, "lrp": 0.2}}}
    metrics["ci95"] = {"undefined": {"spearman": {"gradcam": [0.0, 0.3], "lrp": None}}}
    columns = _of_interp(metrics, "gradcam")
    assert columns["undefined_spearman"] == 0.1
    assert columns["undefined_spearman_high"] == 0.3
    assert not any("lrp" in name for name in columns)


def test_transfer_is_averaged_over_seeds(rows):
    matrix = next(m for m in transfers(rows) if (m.model, m.fooling) == ("resnet_tiny", "location"))
    assert matrix.trained == ("gradcam", "lrp_t")
    cell = matrix.cells["gradcam", "gradcam"]
    assert (cell.fsr, cell.low, cell.high, len(cell.rows)) == (pytest.approx(0.85), 0.8, 0.9, 2)
    assert matrix.cells["lrp_t", "gradcam"].fsr == 0.1


def test_no_run_beats_one_on_the_pareto_front(rows):
    points = [row for row in matched(rows) if row.get("fsr") is not None]
    front = plots.pareto_front(points)
    assert [row["run"] for row in front] == ["c", "e", "a", "d"]
    for row in points:
        for best in front:
            assert not (row["fsr"] > best["fsr"] and row["accuracy_drop_top1"] < best["accuracy_drop_top1"])


# ---- Figures and the gallery's data


def test_every_figure_is_one_of_plotlys_and_has_a_text_alternative(sweep, rows):
    data = page_data(run_views(find_runs(sweep), rows, sweep), rows)
    figures = [data["tradeoff"], *(matrix["figure"] for matrix in data["transfer"])]
    figures += [run["training"] for run in data["runs"]]
    figures += [part["figure"] for run in data["runs"] for part in run["aopc"]]
    assert len(figures) == 1 + 4 + 7 + 6  # the broken-off run has logged something
    for figure in figures:
        go.Figure(figure["data"], figure["layout"])  # refuses what Plotly does not know
        assert len(figure["alt"]) > 30
    json.dumps(data, allow_nan=False)


def test_long_curves_are_thinned_and_keep_both_ends():
    steps = np.arange(5000)
    figure = plots.training_figure({"train/penalty": (steps, steps / 5000)})
    x = figure["data"][0]["x"]
    assert len(x) <= plots.POINTS
    assert (x[0], x[-1]) == (0, 4999)
    assert plots.training_figure({"val/score": (steps, steps)}) is None


def test_examples_go_from_best_to_worst_and_pictures_are_kept_once(sweep):
    runs = [run for run in find_runs(sweep) if run.name in "ab"]
    collected = gallery.Gallery(runs)
    for run in runs:
        found = collected.add(run)
        assert [image["roles"] for image in found["images"]] == [("best",), ("fixed",), ("median",), ("worst",)]
        assert [interp["signed"] for interp in found["interps"]] == [False, False, True]
    assert len(collected.pictures) == 4
    worst = found["images"][-1]["maps"]["gradcam"][0]
    assert worst["loss"] == [None, None]
    assert worst["fooled"] is False


def test_maps_are_bytes_with_zero_in_the_middle_of_signed_ones():
    heatmap = torch.tensor([[0.0, 0.5], [1.0, -1.0]])
    assert list(base64.b64decode(gallery.encoded_map(heatmap.relu(), 7, False))) == [0, 128, 255, 0]
    assert list(base64.b64decode(gallery.encoded_map(heatmap, 7, True))) == [128, 192, 255, 1]
    assert gallery.shrunk(torch.rand(56, 50), 28).shape == (28, 28)


def test_the_page_stays_within_its_budget_whatever_the_number_of_runs():
    sizes = [(224, 224)] * 26
    for runs in (1, 10, 100):
        side = gallery.fitting_side(sizes * runs, gallery.SIDES, gallery.MAPS_BUDGET)
        assert side * side * len(sizes) * runs <= gallery.MAPS_BUDGET
    assert gallery.fitting_side(sizes, gallery.SIDES, gallery.MAPS_BUDGET) == 224


# ---- Files


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
    page = write_report(sweep, tmp_path / "out" / "report")
    assert {path.name for path in page.parent.iterdir()} == FILES
    links = re.findall(r'href="([^"]+/)">Folder', page.read_text())
    assert len(links) == 8
    assert (page.parent / links[-1]).resolve().is_dir()


def test_runs_of_an_older_format_are_reported(tmp_path):
    fake_run(tmp_path / "old")
    for name in ("aopc.json", "examples.safetensors", "metrics.csv", "environment.json"):
        (tmp_path / "old" / name).unlink()
    write(tmp_path / "old", "metrics.json", {"fsr": {"gradcam": 0.7}, "accuracy": {"original": {"top1": 0.9}}})
    assert ">70.0</a>" in write_report(tmp_path).read_text()


def test_a_folder_without_finished_runs_is_reported(tmp_path):
    fake_run(tmp_path / "broken")
    (tmp_path / "broken" / "metrics.json").unlink()
    text = write_report(tmp_path).read_text()
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
        write_report(tmp_path / "nowhere")


class Outline(HTMLParser):
    """What the page would load, its scripts, and its controls without a name."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.scripts, self.pictures, self.policy, self.script = [], [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loads += [attrs[key] for key in ("src", "srcset", "data", "action") if attrs.get(key)]
        if tag == "link":
            self.loads.append(attrs["href"])
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]
        if tag == "script":
            self.script = attrs.get("type", "")

    def handle_data(self, data):
        if self.script is not None:
            self.scripts.append((self.script, data))

    def handle_endtag(self, tag):
        if tag == "script":
            self.script = None


def test_the_page_loads_nothing_and_only_its_own_scripts_may_run(sweep):
    outline = Outline((sweep / "report.html").read_text())
    assert outline.loads == ["data:,"]
    assert "default-src 'none'" in outline.policy
    assert "unsafe-eval" not in outline.policy
    scripts = [text for kind, text in outline.scripts if not kind]
    for script in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in outline.policy
    assert len(scripts) == 2
    assert "'unsafe-inline'" not in outline.policy.partition("script-src")[2].partition(";")[0]


# ---- In a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
ARGUMENTS += " --disable-component-update --disable-sync"


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: install it to test the page")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield found
        found.close()


@pytest.fixture(scope="module")
def page(browser, sweep):
    """The report at a desk; whatever it complains of, or asks of others, is collected in page.complaints."""
    found = opened(browser, sweep, 1440)
    yield found
    found.context.close()


def opened(browser, sweep, width, **options):
    page = browser.new_context(viewport={"width": width, "height": 900}, **options).new_page()
    page.set_default_timeout(60_000)  # of a machine with other work to do
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    local = ("file:", "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(local) or page.complaints.append(request.url))
    page.goto((sweep / "report.html").as_uri())
    return page


def choose(page, form, name, label):
    page.select_option(f"#{form} select[name={name}]", label=label)


def options(page, form, name):
    return page.locator(f"#{form} select[name={name}] option").all_inner_texts()


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_the_page_draws_everything_without_complaint(page):
    for plot in ("transfer", "tradeoff", "training", "aopc"):
        assert page.locator(f"#{plot}-plot svg.main-svg").count() > 0
        assert len(page.get_attribute(f"#{plot}-plot", "aria-label")) > 30
    assert page.locator("#cards figure").count() == 4
    assert page.complaints == []


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_overflows_on_a_phone_and_at_a_desk(browser, sweep, page, width):
    shown = page if width == 1440 else opened(browser, sweep, width)
    every = "open => document.querySelectorAll('details').forEach(details => { details.open = open; })"
    assert overflow(shown) <= 0
    choose(shown, "run-pick", "model", "resnet_tiny")
    choose(shown, "run-pick", "interp", "Grad-CAM")
    choose(shown, "run-pick", "run", f"seed 0, {BROKEN}")
    shown.evaluate(every, True)
    shown.wait_for_selector("details[data-of=training-plot] table")
    assert overflow(shown) <= 0
    outside = "e => [...e.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg, pre, .hidden') && "
    outside += "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert shown.locator("body").evaluate(outside) == []
    shown.evaluate(every, False)
    assert "no example images" in shown.inner_text("#gallery-none")
    choose(shown, "run-pick", "run", "seed 0, a")
    assert shown.complaints == []


def test_the_gallery_switches_image_fooling_and_interpreter(page):
    choose(page, "run-pick", "model", "resnet_tiny")
    choose(page, "run-pick", "fooling", "Location")
    choose(page, "run-pick", "interp", "Grad-CAM")
    caption = page.locator("#gallery-caption")
    assert "Heatmaps by Grad-CAM: 4 images, sorted by the test loss" in caption.inner_text()
    roles = page.locator("#cards .role").all_inner_texts()
    assert roles == ["best", "fixed", "median", "worst"]
    drawn = "document.querySelector('#cards canvas').toDataURL()"
    first = page.evaluate(drawn)
    choose(page, "gallery-pick", "interp", "LRP")
    assert "Heatmaps by LRP:" in caption.inner_text()
    assert page.evaluate(drawn) != first
    assert page.locator("#scale-low").inner_text() == f"{wording.MINUS}1"
    choose(page, "gallery-pick", "image", "worst: test image 12, 3")
    assert page.locator("#cards figure").count() == 1
    assert "worst, test image 12" in caption.inner_text()
    choose(page, "run-pick", "run", "seed 1")
    assert "seed 1" in caption.inner_text()
    assert "worst, test image 12" in caption.inner_text()  # the same image of another run
    page.click("#gallery-pick button[name=next]")
    assert page.locator("#cards figure").count() == 4
    choose(page, "run-pick", "fooling", "Active")
    assert "test composite" in page.locator("#cards").inner_text()
    assert page.locator("#cards figure:first-child canvas").count() == 4  # two networks, two classes
    choose(page, "run-pick", "model", "vgg_tiny")
    assert options(page, "run-pick", "fooling") == ["Top-k"]
    assert page.complaints == []


def test_every_picture_and_map_says_what_it_is(page):
    choose(page, "run-pick", "model", "resnet_tiny")
    choose(page, "run-pick", "fooling", "Location")
    choose(page, "gallery-pick", "image", "all 4, from best to worst")
    # grey copies under a map are decoration; each image itself is described once
    assert page.locator("#cards img[alt^='test ']").count() == page.locator("#cards figure").count()
    for what, has_no_name in (
        ("#cards canvas", "!e.getAttribute('aria-label')"),
        ("img", "!e.hasAttribute('alt') || !e.naturalWidth"),
        ("select, button", "!(e.closest('label') || e.textContent)"),
        ("table", "!e.caption && !e.closest('.numbers')"),
    ):
        assert page.evaluate(f"[...document.querySelectorAll('{what}')].filter(e => {has_no_name}).length") == 0, what


def test_the_keyboard_reaches_and_changes_everything(page):
    choose(page, "transfer-pick", "model", "resnet_tiny")
    page.locator("#transfer-pick select[name=fooling]").focus()
    before = page.get_attribute("#transfer-plot", "aria-label")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#transfer-plot", "aria-label") != before
    page.locator("details[data-of=transfer-plot] summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("details[data-of=transfer-plot] table tr").count() >= 2
    page.locator("#all-runs thead button").nth(5).focus()
    page.keyboard.press("Enter")
    first = "#all-runs tbody tr:first-child td:nth-child(6)"
    assert "30.0" in page.inner_text(first)
    page.keyboard.press("Enter")
    assert "100.0" in page.inner_text(first)
    assert page.get_attribute("#all-runs thead th:nth-child(6)", "aria-sort") == "descending"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    assert page.complaints == []


def test_numbers_lead_to_the_configs_of_their_runs(page):
    mean = page.locator("#tables a[data-runs]").first
    mean.click()
    opened_runs = page.locator("details.run[open]").all()
    assert len(opened_runs) == 2
    for run in opened_runs:
        assert "optimizer:" in run.inner_text()
    page.locator("details.run[open] a.show").first.click()
    assert page.evaluate("location.hash") == "#one"
    point = "#tradeoff-plot .scatterlayer .trace:nth-child(2) .points path"
    page.locator(point).first.click(force=True)
    assert page.evaluate("location.hash").startswith("#run-")


def test_the_theme_follows_the_system_and_the_button(page):
    page.emulate_media(color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#aopc-plot .xtick text')).fill"
    light = page.evaluate(paper), page.evaluate(ink)
    page.click("#theme")
    assert page.evaluate(paper) == "rgb(19, 21, 24)"
    assert page.evaluate(ink) != light[1]
    assert page.inner_text("#theme") == "Light"
    page.click("#theme")
    assert (page.evaluate(paper), page.evaluate(ink)) == light


def test_names_are_shown_and_never_run(page):
    choose(page, "run-pick", "model", NASTY)
    assert NASTY in page.inner_text("#gallery-caption")
    assert f"says {NASTY}, 75 %" in page.inner_text("#cards")
    choose(page, "transfer-pick", "model", NASTY)
    assert NASTY in page.get_attribute("#transfer-plot", "aria-label")
    assert NASTY in page.inner_text("#all-runs")
    assert f"Diverged {NASTY}. Lower optimizer.lr." in page.inner_text("#summary")
    assert NASTY in page.locator("#tradeoff-plot .legend").text_content()
    assert page.evaluate("[...document.scripts].length") == 3
    assert page.complaints == []


def test_it_prints(page, tmp_path):
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
    assert page.locator("#aopc-plot svg.main-svg").first.evaluate("svg => svg.clientWidth") > 900  # and back


def test_links_are_addresses_and_numbers_are_as_people_write_them():
    assert wording.link('a <b>/"c"#?') == "a%20%3Cb%3E/%22c%22%23%3F"
    assert (wording.number(-0.001), wording.number(-1.25, 2), wording.number(None)) == (
        "0.0",
        f"{wording.MINUS}1.25",
        wording.TO,
    )
    assert Path(wording.link("javascript:alert(1)")).name == "javascript%3Aalert%281%29"
