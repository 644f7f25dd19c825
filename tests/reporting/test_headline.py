"""The sentence at the top of a report."""

import pytest

from advfool.reporting.headline import by_fooling, headline
from tests.helpers.fake_runs import NASTY


def test_the_headline_names_the_best_and_the_worst(rows):
    found = headline(rows)
    assert found.states == {"finished": 6, "failed": 1, "unfinished": 1}
    assert (found.measured, found.enough) == (6, 3)
    assert found.fsr.median == pytest.approx((0.45 + 0.8) / 2)
    assert (found.fsr.low["run"], found.fsr.high["run"]) == (NASTY, "d")
    assert found.drop.high["run"] == NASTY
    assert found.transfer == pytest.approx(0.1)
    assert [part.name for part in by_fooling(rows)] == ["location", "topk", "active"]


def test_null_and_deceptive_rate_are_those_of_the_runs_that_have_them(rows):
    assert (headline(rows).null, headline(rows).deceptive, headline(rows).transfer_deceptive) == (None, None, None)
    beside = {"fsr_null": 0.2, "deceptive_rate": 0.6, "misdirected_rate": 0.3}
    some = [row | beside if row["run"] == "a" else row for row in rows]
    found = headline(some)
    assert (found.null.median, found.deceptive.median, found.misdirected.median) == (0.2, 0.6, 0.3)
    assert found.deceptive.low["run"] == "a"
    assert (found.transfer_null, found.transfer_deceptive) == (0.2, 0.6)
