"""Say in words what a type allows, and show a value in a message."""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import AfterValidator

from advfool.utilities.kinds import MOST, Words, not_blank

_LONGEST = 100  # characters of a value in a message


def describe(hint: Any, null: str = "None", large: bool = False) -> str:
    """Say in words what a type allows, e.g. `a whole number of at least 1`.

    Args:
        hint: the type.
        null: the word for None.
        large: whether the upper limit of all whole numbers is named, too.

    >>> from advfool.utilities.kinds import Count
    >>> describe(Count | None)
    'a whole number of at least 1, or None'
    >>> describe(Literal["best", "last"])
    'one of best, last'
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words = [extra.text for extra in hint.__metadata__ if isinstance(extra, Words)]
        text = words[0] if words else f"{describe(args[0], null)}{_range(hint.__metadata__, large)}"
        some = any(isinstance(extra, Len) and extra.min_length for extra in hint.__metadata__)
        return text.replace("a list", "a list that is not empty", 1) if some else text
    if origin in (Union, types.UnionType):
        parts = [describe(arg, null, large) for arg in args if arg is not type(None)]
        text = " or ".join(dict.fromkeys(parts))
        return f"{text}, or {null}" if type(None) in args else text
    if origin is Literal:
        words = ", ".join(map(str, args))
        return f"one of {words}" if len(args) > 1 else words
    if origin is tuple and ... not in args:
        return f"a list of {len(args)}: {', '.join(describe(arg, null) for arg in args)}"
    if origin is not None and inspect.isclass(origin):
        if issubclass(origin, Sequence):
            return "a list" if args[0] in (Any, object) else f"a list in which each entry is {describe(args[0], null)}"
        return _KINDS.get(origin, "")
    if hasattr(hint, "dim_str"):
        return _tensor(hint)
    return _KINDS.get(hint) or _NAMED.get(hint.__name__) or f"{_article(hint)} {hint.__name__} object"


def _tensor(hint: Any) -> str:
    """Say the form of a tensor: its sizes by name, `...` for any."""
    kind = next((word for name, word in _CONTENT.items() if name in hint.dtypes), "")
    sizes = "" if hint.dim_str == "..." else f" of the form ({', '.join(hint.dim_str.split()).replace('_', 'n')})"
    return f"a tensor{kind}{sizes}"


_CONTENT = {"float32": " of floats", "int64": " of whole numbers", "bool": " of true and false"}
_NAMED = {"Tensor": "a tensor", "ndarray": "an array", "Module": "a network (torch.nn.Module)", "Hashable": "a name"}


_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    Path: "a path",
    dict: "names with values",
    Mapping: "names with values",
    Sequence: "a list",
    list: "a list",
    Callable: "a function",
}


def _article(hint: Any) -> str:
    return "an" if getattr(hint, "__name__", "x")[0] in "AEIOUaeiou" else "a"


def _range(limits: Sequence[object], large: bool) -> str:
    """Say the range of a number; an upper limit that only keeps it in bounds is said where it is exceeded."""
    low = next((limit for limit in limits if isinstance(limit, Ge | Gt)), None)
    high = next((limit for limit in limits if isinstance(limit, Le | Lt)), None)
    if isinstance(high, Le) and high.le == MOST and not large:
        high = None
    below = f"{high.le}" if isinstance(high, Le) else f"below {high.lt}" if high else ""
    if isinstance(low, Ge):
        return f" from {low.ge} to {below}" if below else f" of at least {low.ge}"
    if low:
        return f" above {low.gt}" + (f", up to {below}" if isinstance(high, Le) else f" and {below}" if high else "")
    if any(isinstance(limit, AfterValidator) and limit.func is not_blank for limit in limits):
        return " that is not empty"
    return f" up to {below}" if below else ""


def shown(value: object, null: str = "None") -> str:
    """Write a value on one line, shortened; `null` is the word for None."""
    if value is None:
        return null
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and kind is not None:
        return f"{'an array' if isinstance(value, np.ndarray) else 'a tensor'} {tuple(shape)} of {kind}"
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # a whole number of more digits than Python writes
        text = "a whole number of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
