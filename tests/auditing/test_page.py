"""The first screen of audit.html: the answer, a verdict for each interpreter, one strip of pictures."""

import re

import pytest

from advfool.auditing.page import answer, badge, page, sentence
from tests.helpers.audits import broken, record, unattacked


@pytest.mark.parametrize(
    ("interpreters", "expected"),
    [
        ({"a": broken(), "b": broken(), "c": unattacked("unfaithful")}, "Yes: 2 of 2 interpreters can be made to lie"),
        ({"a": unattacked("not broken by AM-1")}, "Not by this attack: 0 of 1 interpreter of resnet_tiny broken. That does"),
        ({"a": unattacked("degenerate"), "b": unattacked("no gradient")}, "Nothing was attacked: the heatmaps of resnet_t"),
    ],
)  # fmt: skip
def test_the_question_of_the_page_is_answered_in_one_sentence(interpreters, expected):
    assert answer(record(interpreters)).startswith(expected)


def test_each_verdict_has_a_badge():
    verdicts = ("broken by topk", "not broken by AM-1", "degenerate", "unfaithful", "no gradient")
    words = ["CAN LIE", "NOT BROKEN", "SAYS NOTHING", "SAYS NOTHING", "NOT ATTACKED"]
    assert [badge(verdict) for verdict in verdicts] == words


def test_an_accuracy_that_is_not_shown_to_be_kept_is_said_in_words():
    text = page(record({"a": broken(accuracy="not shown"), "b": broken(accuracy="lost"), "c": broken()}), {})
    assert [text.count(words) for words in ("is kept stays open", "than the budget allows", "accuracy kept")] == [
        1,
        1,
        1,
    ]


def test_an_attack_that_costs_nothing_says_so():
    assert sentence("x", broken(drop=-0.002)).endswith("without losing accuracy.")
    assert "for 0.4 points of accuracy" in sentence("x", broken())


def test_the_first_picture_is_of_the_most_easily_fooled():
    text = page(record({"void": unattacked("unfaithful"), "lrp_t": broken(0.7), "gradcam": broken()}), dict.fromkeys(("void", "lrp_t", "gradcam"), b"png"))  # fmt: skip
    shown = re.findall(r"heatmaps of (\w+)\" src", text)
    assert shown == ["gradcam", "lrp_t", "void"]
    assert text.index("CAN LIE") < text.index("heatmaps of gradcam") < text.index("<h2>Ranking")
    assert text.index("<h2>More pictures") < text.index("heatmaps of lrp_t")
