"""Deceived and misdirected images against loops written from the definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advfool.metrics import DeceptiveRate, MisdirectedRate, deceived, deceptive_rate, misdirected

LOSSES = st.sampled_from([0.0, 0.1, 0.2, 0.3, math.nan])
FLAGS = st.booleans()


def one_deceived(loss, kept, explained, before, after):
    if not (explained and before):
        return math.nan
    return float(0 <= loss <= 0.2 and kept and not after)


def one_misdirected(loss, kept, explained, before, after, mass, share):
    if not explained or before != 1:
        return math.nan
    return float(0 <= loss <= 0.2 and kept and after == 0 and mass <= share)


def same(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True)


@given(st.lists(st.tuples(LOSSES, FLAGS, FLAGS, FLAGS, FLAGS), min_size=1, max_size=12), st.integers(0, 12))
def test_deceived_images_are_the_definitions(rows, cut):
    loss, kept, explained, before, after = (torch.tensor(column) for column in zip(*rows, strict=True))
    expected = [one_deceived(*row) for row in rows]
    same(deceived(loss, (0, 0.2), kept, explained, before, after), expected)
    defined = [value for value in expected if value == value]
    rate = sum(defined) / len(defined) if defined else math.nan
    same(deceptive_rate(loss, (0, 0.2), kept, explained, before, after), rate)
    metric = DeceptiveRate((0, 0.2))
    for part in (slice(0, cut), slice(cut, None)):
        metric.update(*(column[part] for column in (loss, kept, explained, before, after)))
    same(metric.compute(), rate)


POINTING = st.sampled_from([0.0, 1.0, math.nan])
MASSES = st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan])


@given(st.lists(st.tuples(LOSSES, FLAGS, FLAGS, POINTING, POINTING, MASSES, MASSES), min_size=1, max_size=12))
def test_misdirected_images_are_the_definitions(rows):
    columns = [torch.tensor(column) for column in zip(*rows, strict=True)]
    expected = [one_misdirected(*row) for row in rows]
    same(misdirected(columns[0], (0, 0.2), *columns[1:]), expected)
    defined = [value for value in expected if value == value]
    metric = MisdirectedRate((0, 0.2))
    metric.update(*columns)
    same(metric.compute(), sum(defined) / len(defined) if defined else math.nan)


def test_both_classes_of_a_composite():
    yes = torch.ones(2, 2, dtype=torch.bool)
    explained = torch.tensor([[True, False], [False, True]])
    found = deceived(torch.tensor([[0.6, 0.6], [0.6, 0.1]]), (0.5, 2), yes, explained, yes, ~yes)
    same(found, [[1.0, math.nan], [math.nan, 0.0]])
    assert DeceptiveRate((0.5, 2)).compute().isnan()


@pytest.mark.parametrize("changed", ["kept", "faithful after", "loss"])
def test_each_condition_is_needed(changed):
    loss, yes, no = torch.tensor([0.1]), torch.tensor([True]), torch.tensor([False])
    arguments = {"loss": loss, "kept": yes, "explained": yes, "faithful before": yes, "faithful after": no}
    assert deceived(arguments.pop("loss"), (0, 0.2), *arguments.values()) == 1
    arguments = {"loss": loss} | arguments
    arguments[changed] = loss + 1 if changed == "loss" else ~arguments[changed]
    assert deceived(arguments.pop("loss"), (0, 0.2), *arguments.values()) == 0
