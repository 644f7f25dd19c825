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
