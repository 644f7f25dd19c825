"""The drop of accuracy, the ratio of errors and the verdict."""

import pytest
import torch

from advfool.metrics import accuracy_verdict, drop_interval, error_ratio


def answers(lost, gained, both_wrong=0, n=360):
    """Right and wrong answers of both networks."""
    before, after = torch.ones(2, n)
    after[:lost] = 0
    before[lost : lost + gained] = 0
    before[n - both_wrong :] = after[n - both_wrong :] = 0
    return before, after


def test_drop_of_independent_images_is_the_published_interval():
    drop, (low, high) = drop_interval(*answers(lost=9, gained=4, n=100))
    more, fewer = 10 / 102, 5 / 102  # Bonett & Price 2012
    margin = 1.959964 * ((more + fewer - (more - fewer) ** 2) / 102) ** 0.5
    assert drop == pytest.approx(0.05)
    assert (low, high) == pytest.approx((more - fewer - margin, more - fewer + margin))


def test_an_interval_has_a_width_even_where_nothing_differs():
    before, after = answers(0, 0)
    drop, (low, high) = drop_interval(before, after)
    assert (drop, low, high) == pytest.approx((0, -0.0083, 0.0083), abs=1e-4)  # about 3 by 360
    widths = []
    for lost in (0, 1, 2, 5):
        _, (low, high) = drop_interval(*answers(lost, 0))
        widths.append(high)
    assert widths == sorted(widths)
    ratio, (low, high) = error_ratio(*answers(0, 0, both_wrong=10))
    assert ratio == 1
    assert low < 1 < high


def test_related_images_count_as_fewer():
    scans = torch.arange(1080) // 3
    before, after = answers(0, 0, n=1080)
    assert drop_interval(before, after, scans)[1] == pytest.approx(drop_interval(*answers(0, 0))[1])
    before, after = (values.repeat_interleave(3) for values in answers(20, 8, both_wrong=5))  # alike within a scan
    for function in (drop_interval, error_ratio):
        value, (low, high) = function(before, after, scans)
        expected, (own_low, own_high) = function(*answers(20, 8, both_wrong=5))
        assert value == pytest.approx(expected)
        assert (low, high) == pytest.approx((own_low, own_high), rel=0.05, abs=5e-4)


def test_errors_twice_as_many_are_a_ratio_of_two():
    ratio, (low, high) = error_ratio(*answers(lost=11, gained=0, both_wrong=11, n=1000))
    assert ratio == 2
    assert 1 < low < 2 < high
    assert error_ratio(*answers(lost=3, gained=0)) == (None, None)
    ratio, (low, high) = error_ratio(*answers(lost=0, gained=4))
    assert (ratio, low) == (0, 0)
    assert 0 < high < 2


def test_one_image_one_source_and_missing_answers():
    before, after = answers(2, 1, n=6)
    assert drop_interval(before[:1], after[:1]) == (1, None)
    assert drop_interval(before[:0], after[:0]) == (None, None)
    assert drop_interval(before, after, torch.zeros(6).long())[1] is None
    assert error_ratio(before, after, torch.zeros(6).long()) == (2, None)
    more = [torch.cat([values, torch.tensor([torch.nan])]) for values in (before, after)]
    assert drop_interval(*more) == drop_interval(before, after)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((-0.02, 0.009), "kept"), ((-0.02, 0.01), "not shown"), ((0.011, 0.2), "lost"), ((0.01, 0.2), "not shown")],
)
def test_verdict_is_by_the_ends_of_the_interval(interval, verdict):
    assert accuracy_verdict(interval, 0.01) == verdict
    assert accuracy_verdict(None, 0.01) == "not shown"
