"""The kinds of values that settings have: types with ranges, for the signatures of constructors and functions.

`advfool.utilities.checking` checks values against them, a whole number being good enough a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator

MOST = 2**31 - 1  # no count, side or number of steps is larger


@dataclass(frozen=True)
class Words:
    """State in a message what is expected, where the type alone says too little."""

    text: str


def not_blank(text: str) -> str:
    """Refuse a text without a letter."""
    if not text.strip():
        raise ValueError("blank")
    return text


def _file_name(text: str) -> str:
    if any(letter in "/\\" or not letter.isprintable() for letter in text) or text.startswith("."):
        raise ValueError("no name of a file")
    return text


def _ascending(values: Sequence[float]) -> Sequence[float]:
    if len(values) != 2 or not values[0] <= values[1]:
        raise ValueError("not ascending")
    return values


def _above_zero(values: Sequence[float]) -> Sequence[float]:
    if min(values) <= 0:
        raise ValueError("not above zero")
    return values


def _two(values: Sequence) -> Sequence:
    if len(values) != 2:
        raise ValueError("not two")
    return values


def _different(values: Sequence) -> Sequence:
    if len({repr(value) for value in values}) < len(values):
        raise ValueError("repeated")
    return values


def _box(edges: Sequence[float]) -> Sequence[float]:
    if len(edges) != 4 or not (0 <= edges[0] < edges[2] <= 1 and 0 <= edges[1] < edges[3] <= 1):
        raise ValueError("no box")
    return edges


Count = Annotated[int, Ge(1), Le(MOST)]
Size = Annotated[int, Ge(0), Le(MOST)]  # a count that may be 0
Workers = Annotated[int, Ge(0), Le(1024)]
Side = Annotated[int, Ge(1), Le(2**14), Words("a whole number of pixels from 1 to 16384")]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Percent = Annotated[float, Gt(0), Le(100)]
Inside = Annotated[float, Gt(0), Lt(1)]  # a share that leaves something on both sides
Seed = Annotated[int, Ge(0), Lt(2**32), Words("an integer from 0 to 2^32 - 1")]
Text = Annotated[str, AfterValidator(not_blank)]
Label = Annotated[Text, AfterValidator(_file_name), Words("a name without slashes or a dot in front")]
Names = Annotated[Sequence[Text], AfterValidator(_different), Words("a list of different names")]
Interval = Annotated[Sequence[float], AfterValidator(_ascending), Words("[lowest, highest] test loss")]
SomeClass = Size | Text  # by index or name
Pair = Annotated[
    Sequence[SomeClass], AfterValidator(lambda two: _two(_different(two))), Words("two classes, by index or name")
]
Box = Annotated[
    Sequence[float],
    AfterValidator(_box),
    Words("[top, left, bottom, right] as fractions of the image's sides, from 0 to 1"),
]
CropScale = Annotated[
    Sequence[Share],
    AfterValidator(_ascending),
    AfterValidator(_above_zero),
    Words("[smallest, largest] share of a photo's area, above 0 up to 1"),
]
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
