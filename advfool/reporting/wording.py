"""Numbers and names as people read them, and how text is made safe for Markdown and LaTeX."""

import re
from urllib.parse import quote

MINUS = "\N{MINUS SIGN}"
TO = "\N{EN DASH}"
FOOLINGS = {"location": "Location", "topk": "Top-k", "center_mass": "Center-mass", "active": "Active"}
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
}
OTHERS = {
    "original": "Original",
    "top1": "Top-1",
    "top5": "Top-5",
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
    """A fooling as the paper writes it; its own name where the paper has none."""
    return FOOLINGS.get(name, name)


def rank(name: str) -> tuple[int, str]:
    """Sorts foolings into the paper's order, others behind them by name."""
    return list(FOOLINGS).index(name) if name in FOOLINGS else len(FOOLINGS), name


def interp(name: str) -> str:
    """An interpreter as the paper writes it; its own name where the paper has none."""
    return INTERPS.get(name, name)


def word(name: str) -> str:
    """A label of the paper's tables as the paper writes it.

    >>> word("lrp_t"), word("table1")
    ('LRP_T', 'Table 1')
    """
    known = FOOLINGS | INTERPS | OTHERS
    return known.get(name) or re.sub(r"^table(\d+)$", r"Table \1", name)


def number(value: float | None, digits: int = 1, none: str = TO) -> str:
    """A number with a true minus sign; `none` where it is not known.

    >>> number(-0.094, 2)
    '−0.09'
    """
    if value is None:
        return none
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def percent(fraction: float | None, digits: int = 1, none: str = TO) -> str:
    """A fraction of 1 in percent (or, of a difference, in points), without the unit.

    >>> percent(0.4567)
    '45.7'
    """
    return number(None if fraction is None else 100 * fraction, digits, none)


def interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """Both ends of an interval in their own unit, or nothing.

    >>> interval(-1, 2.25)
    '−1.0 to 2.2'
    """
    return "" if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def percent_interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """The same of fractions of 1, in percent or points."""
    return "" if low is None or high is None else interval(100 * low, 100 * high, digits)


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "run"), plural(2, "run")
    ('1 run', '2 runs')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def link(path: str) -> str:
    """A relative path as an address."""
    return quote(path)


def markdown(text: object) -> str:
    """Text that stands for itself in Markdown and its tables, on one line.

    >>> markdown("a|b_c <script>")
    'a\\\\|b\\\\_c &lt;script&gt;'
    """
    flat = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", flat)


def latex(text: object) -> str:
    r"""Text that stands for itself in LaTeX, on one line.

    >>> print(latex("lrp_t & 5 %"))
    lrp\_t \& 5 \%
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(str(text).split()))
