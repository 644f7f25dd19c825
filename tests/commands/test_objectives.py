"""Nothing is chosen on test images: what a search is told comes from the selection images."""

import pytest

from advfool.commands import own_folder
from advfool.commands.objectives import headline
from advfool.data.digits import DigitsModule
from advfool.reporting.runs import find_runs
from tests.helpers.command import SMALL, metrics_of, run_here
from tests.helpers.sealed import sealed_test_images

SEARCH = [
    "-m", *SMALL, "trainer.max_steps=4", "trainer.val_check_interval=2", "pictures=0", "evaluate_with=[]",
    "search=pareto", "hydra.sweeper.n_trials=2", "callbacks.divergence=null",
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
