"""Nothing is chosen on test images: what a search is told comes from the selection images."""

import json
import math
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from advfool.commands import own_folder
from advfool.commands.objectives import check_objective, headline, result
from advfool.data.digits import DigitsModule
from advfool.reporting.runs import find_runs
from advfool.utilities.errors import AdvfoolError
from tests.helpers.command import SMALL, metrics_of, run_here
from tests.helpers.sealed import sealed_test_images

SEARCH = [
    "-m", *SMALL, "trainer.max_steps=4", "trainer.val_check_interval=2", "pictures=0", "evaluate_with=[]",
    "search=pareto", "hydra.sweeper.n_trials=2", "callbacks.divergence=null",
    "faithfulness.images=8", "faithfulness.random_orders=2", "nulls.images=4",
]  # fmt: skip


def test_a_search_runs_with_test_images_that_cannot_be_read_before_the_end(tmp_path, monkeypatch):
    returned, write = [], own_folder.run_in_folder
    monkeypatch.setattr(
        "advfool.commands.sweep.run_in_folder", lambda *args, **kw: returned.append(write(*args, **kw)) or returned[-1]
    )
    with sealed_test_images(DigitsModule) as seal:
        monkeypatch.setattr("advfool.commands.train.run_fooling", _sealing(seal))
        done = run_here("advfool.train", [*SEARCH, f"hydra.sweep.dir={tmp_path}"])
    assert done.returncode == 0, done.stderr
    runs = {run.name: metrics_of(run.folder) for run in find_runs(tmp_path)}
    assert (len(runs), seal["ends"]) == (2, 2)
    told = {(fsr, drop) for fsr, drop in returned}
    assert all(metrics["selection"]["n_images_faithfulness"] == 8 for metrics in runs.values())
    for metrics in runs.values():
        assert metrics["test_images"]["opened"] == "once, after training"
        chosen_by = metrics["selection"]
        assert chosen_by["n_images"] == 40
        assert (chosen_by["fsr"]["gradcam"], chosen_by["accuracy"]["drop"]) in told


def _sealing(seal):
    from advfool.library.fool import run_fooling

    def sealed(*args, **kwargs):
        seal["sealed"] = True  # for each run of the search anew
        return run_fooling(*args, **kwargs)

    return sealed


@pytest.mark.parametrize(("fsr", "expected"), [({"gradcam": 0.25}, 0.25), ({"gradcam": {"c1": 0.5, "c2": 1.0}}, 0.75)])
def test_the_headline_is_the_mean_of_both_classes(fsr, expected):
    assert headline({"fsr": fsr}, "gradcam") == expected


@pytest.mark.parametrize(("rate", "expected"), [(0.5, 0.5), ({"c1": 0.5, "c2": 1.0}, 0.75)])
def test_a_search_can_be_told_the_deceptive_rate(rate, expected):
    metrics = {"fsr": {"gradcam": 0.25}, "deceptive_rate": {"gradcam": rate}}
    assert headline(metrics, "gradcam", "deceptive_rate") == expected
    assert headline(metrics, "gradcam") == 0.25


@pytest.mark.parametrize("rate", [None, {"c1": None, "c2": None}])
def test_a_deceptive_rate_of_no_images_counts_as_a_failed_run_and_is_said(rate, caplog):
    assert math.isnan(headline({"deceptive_rate": {"gradcam": rate}}, "gradcam", "deceptive_rate"))
    assert "no selection image has a faithful map" in caplog.text


def test_where_one_of_two_classes_has_no_image_to_deceive_about_the_other_one_counts(caplog):
    rate = {"gradcam": {"c1": None, "c2": 0.75}}
    assert headline({"deceptive_rate": rate}, "gradcam", "deceptive_rate") == 0.75
    assert "the other counts" in caplog.text


def test_a_finished_run_is_read_with_the_objective_that_is_asked_for(tmp_path, monkeypatch):
    selection = {"fsr": {"gradcam": 0.9}, "deceptive_rate": {"gradcam": 0.2}, "accuracy": {"drop": 0.01}}
    (tmp_path / "metrics.json").write_text(json.dumps({"selection": selection, "interp": "gradcam"}))
    monkeypatch.setattr("advfool.commands.objectives.whole_config", lambda folder: None)
    for directions, told in (((), 0.2), (("maximize", "minimize"), (0.2, 0.01))):
        sweeper = SimpleNamespace(sweeper={"direction": directions})
        monkeypatch.setattr("advfool.commands.objectives.HydraConfig.get", lambda sweeper=sweeper: sweeper)
        assert result(tmp_path, OmegaConf.create({"objective": "deceptive_rate"})) == told
    assert result(tmp_path, OmegaConf.create({"objective": "fsr"})) == (0.9, 0.01)
    del selection["deceptive_rate"]  # of an earlier version: the run is made again
    (tmp_path / "metrics.json").write_text(json.dumps({"selection": selection, "interp": "gradcam"}))
    with pytest.raises(AdvfoolError, match="is damaged"):
        result(tmp_path, OmegaConf.create({"objective": "deceptive_rate"}))


def test_an_objective_that_is_not_measured_is_refused_before_any_work():
    with pytest.raises(AdvfoolError, match=r"objective=deceptive_rate: expected faithfulness.images of at least 1"):
        check_objective("deceptive_rate", 0)
    check_objective("deceptive_rate", 1)
    check_objective("fsr", 0)
