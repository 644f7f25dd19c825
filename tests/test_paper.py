"""The paper's tables from runs, and what is kept of an experiment."""

import json
from pathlib import Path

import pytest
import scipy.stats

from advfool.data.samples import some_of
from advfool.reporting.paper import paper_tables, publish
from advfool.reporting.paper.publish import MAKERS
from advfool.reporting.paper.record import as_markdown, of_table
from advfool.reporting.paper.reported import experiments_dir, reported, reported_value
from advfool.reporting.paper.tables import mean_and_interval, models_of, of_the_paper
from advfool.reporting.runs import Run, find_runs
from advfool.utilities.errors import AdvfoolError

FSR = {0: 0.90, 1: 0.92, 2: 0.97}  # by seed


def config(model="vgg_tiny", fooling="location", interp="lrp_t", seed=0, fool_weight=4, **more) -> dict:
    return {
        "model": {"name": model},
        "fooling": {"name": fooling},
        "interp": {"name": interp},
        "seed": seed,
        "fool_weight": fool_weight,
        "optimizer": {"lr": 1e-3},
        "trainer": {"max_steps": 600},
        "data": {"_target_": "advfool.data.DigitsModule", "batch_size": 32},
        "target": "label",
        **more,
    }


def a_run(number: int = 0, fsr: float | None = None, **settings) -> Run:
    settings = config(**settings)
    rate = FSR[settings["seed"]] if fsr is None else fsr
    interps = ("gradcam", "lrp_t", "simplegrad_t", "lrp")
    active = settings["fooling"]["name"] == "active"
    metrics = {
        "fsr": {name: {"c1": rate, "c2": rate / 2} if active else rate for name in interps},
        "accuracy": {
            "original": {"top1": 0.99, "top5": 1.0, "c1": 1.0, "c2": 0.98},
            "manipulated": {"top1": 0.98 - settings["seed"] / 100, "top5": 1.0, "c1": 0.97, "c2": 0.96},
        },
    }
    return Run(Path(f"/runs/{number}"), str(number), settings, metrics, {"python": "3.11", "commit": "abc"})


def grid(**settings) -> list[Run]:
    return [a_run(seed, seed=seed, **settings) for seed in FSR]


def cell_of(table, labels, column):
    (row,) = (row for row in table.rows if row.labels == labels)
    return row.cells[table.columns.index(column)]


def test_a_cell_is_the_mean_over_seeds_with_its_interval_and_the_published_number():
    (first, _) = paper_tables(grid())
    assert first.name == "table1"
    cell = cell_of(first, ("location", "lrp_t"), ("vgg_tiny", "gradcam"))
    rates = [90, 92, 97]
    low, high = scipy.stats.t.interval(0.95, 2, loc=93, scale=scipy.stats.sem(rates))
    assert cell.ours == pytest.approx(93)
    assert cell.interval == pytest.approx((low, min(high, 100)), abs=0.01)
    assert cell.reported == 0.8  # Heo et al., Table 1: VGG19, Location, trained with LRP_T, evaluated with Grad-CAM
    assert cell.runs == ("0", "1", "2")
    assert cell.values == pytest.approx(rates)
    assert cell_of(first, ("topk", "gradcam"), ("vgg_tiny", "lrp_t")).ours is None


def test_accuracy_of_the_original_and_the_manipulated_networks():
    _, table = paper_tables(grid(model="resnet_tiny"))
    assert table.name == "table3"
    assert cell_of(table, ("original", "-"), ("resnet_tiny", "top1")).ours == pytest.approx(99)
    cell = cell_of(table, ("location", "lrp_t"), ("resnet_tiny", "top1"))
    assert (cell.ours, cell.reported) == (pytest.approx(97), 73.0)


def test_active_fooling_has_tables_of_both_classes():
    tables = {table.name: table for table in paper_tables(grid(fooling="active", interp="gradcam", model="resnet50"))}
    assert set(tables) == {"table2", "table3", "table5"}
    assert cell_of(tables["table2"], ("gradcam", "c2"), ("resnet50", "lrp")).ours == pytest.approx(46.5)
    assert cell_of(tables["table2"], ("gradcam", "c1"), ("resnet50", "gradcam")).reported == 76.0
    assert cell_of(tables["table5"], ("gradcam",), ("resnet50", "c1")).ours == pytest.approx(97)


def test_only_runs_of_one_setting_are_averaged():
    tried = a_run(9, fsr=0.1, seed=0, fool_weight=100)
    robust = a_run(8, fsr=0.2, seed=0, model="vgg_tiny", callbacks={"free_adversarial": {}})
    unfinished = Run(Path("/runs/7"), "7", config())
    chosen = of_the_paper([tried, robust, unfinished, *grid()], ("location",))
    assert [run.name for run in chosen] == ["0", "1", "2"]


def test_of_a_seed_that_was_run_twice_one_run_counts():
    again = a_run(9, seed=1)
    chosen = of_the_paper([*grid(), again], ("location",))
    assert [run.name for run in chosen] == ["0", "1", "2"]


def test_the_original_network_is_one_however_often_it_was_manipulated():
    _, table = paper_tables(grid())
    cell = cell_of(table, ("original", "-"), ("vgg_tiny", "top1"))
    assert (cell.ours, cell.interval, len(cell.values)) == (pytest.approx(99), None, 1)


def test_images_are_chosen_at_random_from_a_sorted_data_set():
    chosen = some_of(1000, 100)
    assert chosen == sorted(set(chosen))
    assert 350 < sum(chosen) / 100 < 650
    assert some_of(5, None) == some_of(5, 9) == [0, 1, 2, 3, 4]


def test_networks_stand_in_the_papers_order():
    names = ["resnet_tiny_2", "efficientnet", "densenet_tiny", "vgg_tiny", "resnet_tiny"]
    runs = [a_run(model=name) for name in names]
    assert models_of(runs) == ["vgg_tiny", "resnet_tiny", "densenet_tiny", "efficientnet", "resnet_tiny_2"]


def test_of_one_run_there_is_no_interval():
    assert mean_and_interval([50.0]) == (50.0, None)


@pytest.mark.parametrize("name", list(MAKERS))
def test_every_experiment_has_its_published_numbers_and_its_config(name):
    assert "Heo" in reported(name)["source"]
    assert (experiments_dir().parent / "conf" / "experiment" / f"{name}.yaml").is_file()


@pytest.mark.parametrize(
    ("name", "labels", "model", "column", "value"),
    [  # read again in the paper
        ("table1", ("center_mass", "gradcam"), "densenet121", "simplegrad_t", 29.2),
        ("table1", ("topk", "lrp_t"), "resnet50", "gradcam", 46.3),
        ("table2", ("lrp_t", "c2"), "resnet_tiny", "lrp", 24.3),
        ("table3", ("original", "-"), "vgg19", "top1", 72.4),
        ("table3", ("active", "gradcam"), "densenet_tiny", "top5", 90.4),
        ("table5", ("lrp_t",), "vgg19", "c2", 78.0),
        ("table1", ("location", "lrp_t"), "efficientnet_lite0", "gradcam", None),
    ],
)
def test_published_numbers(name, labels, model, column, value):
    assert reported_value(name, labels, model, column) == value


def test_tables_as_text_and_as_numbers():
    table = paper_tables(grid())[0]
    text = as_markdown(table)
    assert "| location | lrp_t | 93.0 (0.8) | 93.0 (87.5) | 93.0 (66.8) |" in text
    numbers = json.loads(json.dumps(of_table(table)))
    assert numbers["rows"][0]["cells"]["vgg_tiny gradcam"]["values"] == pytest.approx([90, 92, 97])


def test_publishing_needs_a_name_and_finished_runs(tmp_path):
    with pytest.raises(AdvfoolError, match="paper=table9: expected one of table1, table2"):
        publish("table9", tmp_path, {"name": "digits"})
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_text(json.dumps(config()))
    assert publish("table1", tmp_path, {"name": "digits"}) is None


def test_what_is_published_says_where_it_comes_from(tmp_path):
    for run in grid():
        folder = tmp_path / f"cell{run.seed}"
        folder.mkdir()
        (folder / "config.yaml").write_text(json.dumps(run.config))
        (folder / "metrics.json").write_text(json.dumps(run.metrics))
        (folder / "environment.json").write_text(json.dumps(run.environment))
        (folder / "status.json").write_text(
            json.dumps({"outcome": "finished", "seconds": 10.0 + run.seed, "error": None})
        )
    target = publish("table1", tmp_path, {"name": "digits"})
    assert target == tmp_path / "paper" / "table1"
    record = json.loads((target / "measured.json").read_text())
    assert (record["experiment"], record["scale"], record["seeds"], record["runs"]) == (
        "table1",
        "digits",
        [0, 1, 2],
        3,
    )
    assert record["cell_seconds"] == {"cells": 3, "total": 33.0, "longest": 12.0}
    assert (record["python"], record["commit"]) == ("3.11", "abc")
    assert record["command"].startswith("python -m advfool.train")
    assert (target / "table1.md").read_text().startswith("| fooling | trained with | vgg_tiny gradcam |")
    assert len(find_runs(tmp_path)) == 3
