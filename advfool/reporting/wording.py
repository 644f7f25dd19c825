"""Numbers and names for readers, and text escaped for Markdown and LaTeX.

Foolings and interpreters that the paper does not have appear under their own names, so new ones need no entry here.
"""

import re
from collections.abc import Mapping
from typing import Any

from advfool.evaluation.reach import OUT_OF_REACH
from advfool.evaluation.setup import JOINT
from advfool.utilities.text import link as link
from advfool.utilities.text import markdown as markdown
from advfool.utilities.text import printable

MINUS = "\N{MINUS SIGN}"
TO = "\N{EN DASH}"
FOOLINGS = {
    "location": "Location",
    "topk": "Top-k",
    "center_mass": "Center-mass",
    "active": "Active",
    "target": "Target",
}
INTERPS = {
    "gradcam": "Grad-CAM",
    "gradcam_pp": "Grad-CAM++",
    "layercam": "LayerCAM",
    "hirescam": "HiResCAM",
    "lrp": "LRP",
    "lrp_t": "LRP_T",
    "simplegrad": "SimpleGrad",
    "simplegrad_t": "SimpleGrad_T",
    "smoothgrad": "SmoothGrad",
    "smoothgrad_t": "SmoothGrad_T",
    "ig": "IG",
    "ig_t": "IG_T",
    "guided_backprop": "Guided Backprop",
    "softplus_t": "Softplus_T",
    "aggregate": "Aggregate",
}
OTHERS = {
    "original": "Original",
    "top1": "Top-1",
    "top5": "Top-5",
    "c1_top5": "c1 top-5",
    "c2_top5": "c2 top-5",
    "fooling": "Fooling",
    "trained with": "Trained with",
    "class": "Class",
}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    MINUS: "$-$",
    TO: "--",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def fooling(name: str) -> str:
    """Return a fooling's name as the paper writes it, or unchanged where the paper has no such fooling."""
    return FOOLINGS.get(name, name)


def rank(name: str) -> tuple[int, str]:
    """Return a key that sorts foolings into the paper's order; others follow by name."""
    return list(FOOLINGS).index(name) if name in FOOLINGS else len(FOOLINGS), name


def interp(name: str) -> str:
    """Return an interpreter's name as papers write it, or unchanged where there is no special spelling.

    >>> interp("gradcam+lrp_t")
    'Grad-CAM+LRP_T'
    """
    if name in INTERPS or JOINT not in name:
        return INTERPS.get(name, name)
    return JOINT.join(INTERPS.get(each, each) for each in name.split(JOINT))


def word(name: str) -> str:
    """Return a label of the paper's tables as the paper writes it, or unchanged.

    >>> word("lrp_t"), word("table1")
    ('LRP_T', 'Table 1')
    """
    known = FOOLINGS | INTERPS | OTHERS
    return known.get(name) or re.sub(r"^table(\d+)$", r"Table \1", name)


def number(value: float | None, digits: int = 1, none: str = TO) -> str:
    """Write a number with a true minus sign.

    Args:
        value: the number; None where it is not known.
        digits: after the decimal point.
        none: stands for an unknown number.

    >>> number(-0.094, 2)
    '−0.09'
    """
    if value is None:
        return none
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def percent(fraction: float | None, digits: int = 1, none: str = TO) -> str:
    """Write a fraction of 1 in percent (a difference in points), without the unit.

    Args:
        fraction: the fraction; None where it is not known.
        digits: after the decimal point.
        none: stands for an unknown number.

    >>> percent(0.4567)
    '45.7'
    """
    return number(None if fraction is None else 100 * fraction, digits, none)


def with_null(rate: float | None, null: float | None, none: str = TO) -> str:
    """Write a success rate in percent and, in brackets, what it would be without an attack.

    Args:
        rate: as a fraction of 1; None where it is not known.
        null: the highest of the controls; None where none was computed.
        none: stands for an unknown rate.

    >>> with_null(0.9, 0.032), with_null(0.9, None)
    ('90.0 (3.2)', '90.0')
    """
    return percent(rate, none=none) + (f" ({percent(null)})" if rate is not None and null is not None else "")


def count(row: Mapping[str, Any], name: str) -> str:
    """Write the number of images that a rate is a share of; of active fooling that of each class.

    >>> count({"n_deceptive": 12}, "n_deceptive"), count({"n_deceptive_c1": 3, "n_deceptive_c2": 5}, "n_deceptive")
    ('12', '3 + 5')
    """
    found = [row[key] for key in (name, f"{name}_c1", f"{name}_c2") if row.get(key) is not None]
    return " + ".join(number(value, 0) for value in found)


def reach(fraction: float) -> str:
    """Write the share of images that Location could fool by moving relevance alone.

    >>> reach(0.25), reach(0.0)
    ('25.0', 'out of reach by moving relevance alone')
    """
    return OUT_OF_REACH if fraction == 0 else percent(fraction)


def interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """Write both ends of an interval; empty where one is not known.

    >>> interval(-1, 2.25)
    '−1.0 to 2.2'
    """
    return "" if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def percent_interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """Write both ends of an interval of fractions of 1, in percent or points; empty where one is not known."""
    return "" if low is None or high is None else interval(100 * low, 100 * high, digits)


def plural(count: int, noun: str) -> str:
    """Write a count with its noun.

    >>> plural(1, "run"), plural(2, "run")
    ('1 run', '2 runs')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def latex(text: object) -> str:
    r"""Escape text for LaTeX, on one line.

    >>> print(latex("lrp_t & 5 %"))
    lrp\_t \& 5 \%
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(printable(text).split()))
