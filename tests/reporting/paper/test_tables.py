"""The paper's tables from runs."""

from pathlib import Path

import pytest
import scipy.stats

from advfool.data.samples import some_of
from advfool.reporting.paper import paper_tables
from advfool.reporting.paper.tables import mean_and_interval, models_of, of_the_paper
from advfool.reporting.runs import Run
from tests.helpers.runs import a_run, config, grid


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
    table = tables["table5"]  # the published numbers are top-5 and stand beside ours of the same quantity alone
    assert cell_of(table, ("gradcam",), ("resnet50", "c1")).ours == pytest.approx(97)
    assert cell_of(table, ("gradcam",), ("resnet50", "c1")).reported is None
    assert cell_of(table, ("gradcam",), ("resnet50", "c1_top5")).reported == 100.0
    assert "which column is which class" in table.title


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


def test_intervals_over_runs_need_three_and_stand_beside_those_over_images():
    assert mean_and_interval([50.0, 60.0])[1] is None
    runs = grid()
    for run, low in zip(runs, (0.8, 0.85, 0.9), strict=True):
        run.results["ci95"] = {"fsr": {"gradcam": [low, 0.99]}}
    for count, over_runs in ((3, True), (2, False)):
        cell = cell_of(paper_tables(runs[:count])[0], ("location", "lrp_t"), ("vgg_tiny", "gradcam"))
        assert (cell.interval is not None) == over_runs
        assert cell.images == pytest.approx((85 if over_runs else 82.5, 99))
    del runs[0].results["ci95"]
    assert cell_of(paper_tables(runs)[0], ("location", "lrp_t"), ("vgg_tiny", "gradcam")).images is None
