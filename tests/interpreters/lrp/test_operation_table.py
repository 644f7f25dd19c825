"""The table of operations: each once, each with a plan, and the page of the documentation lists what the code has."""

import runpy
from collections import Counter
from pathlib import Path

from advfool.interpreters.lrp import operations
from advfool.interpreters.lrp.operations import KINDS
from advfool.interpreters.lrp.planner import PLANS

DOCS = Path(__file__).parents[3] / "docs"


def test_each_operation_is_of_one_kind():
    counts = Counter(key for kind in KINDS for key in kind.keys)
    assert [key for key, count in counts.items() if count > 1] == []
    assert len({kind.title for kind in KINDS}) == len(KINDS)


def test_each_kind_has_a_plan_or_takes_no_relevance():
    weighted = {operations.CONVOLUTION, operations.TRANSPOSED, operations.LINEAR}  # planned by themselves
    constant = {operations.DECISION, operations.BLANK}
    assert {*PLANS} == {*KINDS} - weighted - constant


def test_the_documentation_lists_the_rules_of_the_code():
    page = runpy.run_path(str(DOCS / "make_lrp_rules.py"))
    text = (DOCS / "lrp_rules.md").read_text()
    assert page["written"](text) == text, "run python docs/make_lrp_rules.py"
