"""The Pareto front of a report."""

from advfool.reporting.pareto import CHOSEN_BY, pareto_front
from advfool.reporting.plots import tradeoff_figure
from advfool.reporting.rows import matched


def test_no_run_beats_one_on_the_pareto_front(rows):
    points = [row for row in matched(rows) if row.get("fsr") is not None]
    front = pareto_front(points)
    rate, drop = CHOSEN_BY
    assert [row["run"] for row in front] == ["c", "e", "a", "d"]
    for row in points:
        for best in front:
            assert not (row[rate] > best[rate] and row[drop] < best[drop])


def test_the_pareto_front_is_chosen_on_selection_images_and_drawn_where_the_test_images_say(rows):
    points = [dict(row) for row in matched(rows) if row.get("fsr") is not None]
    anchors = {row["run"]: row["run"] for row in points}
    before = tradeoff_figure(points, anchors)["data"][0]
    for row in points:
        row["fsr"], row["accuracy_drop_top1"] = 1 - row["fsr"], 0.5 * row["accuracy_drop_top1"]
    after = tradeoff_figure(points, anchors)["data"][0]
    assert after["y"] == [round(100 - rate, 3) for rate in before["y"]]  # the same runs, at other places
    for row in points:
        del row["selection_fsr"]  # of a run that has none
    assert tradeoff_figure(points, anchors)["data"][0]["x"] == []
