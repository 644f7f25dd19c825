"""What is kept of an experiment."""

import json

import pytest

from advfool.reporting.paper import publish
from advfool.reporting.runs import find_runs
from advfool.utilities.errors import AdvfoolError
from tests.helpers.runs import config, grid


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
