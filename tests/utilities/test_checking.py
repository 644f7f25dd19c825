"""Values against the types that signatures state: what is refused, and what the message says."""

import copy
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from annotated_types import Len
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.interpreters import SmoothGrad
from advfool.utilities.checking import Checked, check, check_fields, checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, Names, NonNegative, Positive, Seed, Share, Text


@dataclass(frozen=True)
class Part(Checked):
    """A dataclass that other signatures take."""

    size: Count = 1
    share: Share = 0.5

    def __post_init__(self) -> None:
        check_fields(self)


@checked
def measure(
    maps: Float[Tensor, "n h w"], labels: Int[Tensor, "n"], part: Part | None = None, steps: Count = 3, **others: Seed
) -> int:
    return len(maps)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Count, np.int64(3)),
        (Positive, 3),
        (Positive, np.float32(0.5)),
        (Share, 1),
        (tuple[Count, Count], [3, 4]),
        (Sequence[float], np.array([1.0, 2.0])),
        (Sequence[Any], range(3)),
        (Literal["a", "b"] | None, None),
        (Part, Part()),
        (nn.Module, nn.ReLU()),
        (Mapping[str, Any], {"a": 1}),
    ],
)
def test_values_that_fit(hint, value):
    check(hint, value, "key")


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (Count, 0, "key must be a whole number of at least 1, got 0."),
        (Count, True, "key must be a whole number of at least 1, got True."),
        (Count, 1.5, "key must be a whole number of at least 1, got 1.5."),
        (Count, 2**40, f"key must be a whole number from 1 to {2**31 - 1}, got {2**40}."),
        (Positive, float("nan"), "key must be a number above 0, got nan."),
        (NonNegative, float("inf"), "key must be a number of at least 0, got inf."),
        (NonNegative, "1", "key must be a number of at least 0, got '1'."),
        (Text, " ", "key must be text that is not empty, got ' '."),
        (Literal[0, -1], False, "key must be one of 0, -1, got False."),
        (Sequence[Positive], [1, "a"], "key must be a list in which each entry is a number above 0, got [1, 'a']."),
        (Sequence[Any], "ab", "key must be a list, got 'ab'."),
        (Annotated[Names, Len(1)], [], "key must be a list that is not empty of different names, got []."),
        (Part, 3, "key must be a Part object, got 3."),
        (Part | None, Part, "key must be a Part object, or None, got "),
        (nn.Module, None, "key must be a network (torch.nn.Module), got None."),
        (Tensor | np.ndarray, "x", "key must be a tensor or an array, got 'x'."),
        (Mapping[str, Any], ["a"], "key must be names with values, got ['a']."),
        (Seed, -1, "key must be an integer from 0 to 2^32 - 1, got -1."),
    ],
)
def test_values_that_do_not_fit(hint, value, message):
    with pytest.raises(AdvfoolError) as error:
        check(hint, value, "key")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maps": torch.rand(2, 3)}, "maps must be a tensor of floats of the form (n, h, w), got a tensor (2, 3) of"),
        ({"maps": np.zeros((2, 3, 3))}, "(n, h, w), got an array (2, 3, 3) of float64."),
        ({"labels": torch.rand(2)}, "labels must be a tensor of whole numbers of the form (n), got a tensor (2,) of"),
        ({"part": 3}, "part must be a Part object, or None, got 3."),
        ({"other": -1}, "other must be an integer from 0 to 2^32 - 1, got -1."),
    ],
)
def test_arguments_that_do_not_fit_each_other_or_their_types(arguments, message):
    given = {"maps": torch.rand(2, 3, 3), "labels": torch.tensor([0, 1])}
    assert measure(**given) == 2
    with pytest.raises(AdvfoolError) as error:
        measure(**{**given, **arguments})
    assert message in str(error.value)


@pytest.mark.parametrize("call", [lambda: Part(sise=1), lambda: SmoothGrad(interpreter=None), lambda: SmoothGrad(a=1)])
def test_constructors_refuse_unknown_arguments_and_parts_of_another_class(call):
    with pytest.raises(AdvfoolError, match=r"There is no|there is no argument|must be an Interpreter object"):
        call()


def test_checked_dataclasses_can_be_copied():
    part = Part(3, share=0.25)
    assert pickle.loads(pickle.dumps(part)) == copy.deepcopy(part) == part
