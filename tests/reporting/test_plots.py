"""The report's figures."""

import json

import numpy as np
import plotly.graph_objects as go

from advfool.reporting import plots
from advfool.reporting.page import page_data
from advfool.reporting.runs import find_runs
from advfool.reporting.views import run_views


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
