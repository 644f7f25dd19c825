"""Which runs have the same setting, and which setting of several is reported."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple, TypeVar

from advfool.utilities.files import value_at

T = TypeVar("T")
LARGEST = 2**53  # of a number in a report: larger ones are no longer exact


class Setting(NamedTuple):
    """The settings of a run besides its model, fooling, interpreter and seed; None where one is not known.

    Runs of one setting can be averaged over their seeds. The names are those of the columns of a report's rows.

    Args:
        fool_weight: weight of the fooling penalty.
        lr: learning rate.
        max_steps: optimizer steps.
        target: the explained class, `label` or `predicted`.
        data: the class of the data.
        batch_size: images in a batch.
    """

    fool_weight: float | None = None
    lr: float | None = None
    max_steps: float | None = None
    target: str | None = None
    data: str | None = None
    batch_size: float | None = None

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "Setting":
        """Read the setting from the configuration of a run."""
        return cls(
            finite(config.get("fool_weight")),
            finite(value_at(config, ("optimizer", "lr"))),
            finite(value_at(config, ("trainer", "max_steps"))),
            text(config.get("target")),
            text(value_at(config, ("data", "_target_"))),
            finite(value_at(config, ("data", "batch_size"))),
        )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Setting":
        """Read the setting from a row of a report."""
        return cls(*(row.get(name) for name in cls._fields))


def of_usual_setting(found: Iterable[T], group: Callable[[T], Hashable], setting: Callable[[T], Setting]) -> list[T]:
    """Keep, in each group, what has the most frequent setting; of equally frequent settings the first.

    Args:
        found: runs or rows.
        group: what a run or row is compared within, such as (model, fooling, interpreter).
        setting: of a run or row.
    """
    items = list(found)
    usual: dict[Hashable, Setting] = {}
    for (own, value), _ in Counter((group(item), setting(item)) for item in items).most_common():
        usual.setdefault(own, value)
    return [item for item in items if usual[group(item)] == setting(item)]


def finite(value: object) -> float | int | None:
    """Return the value if it is a finite number of usual size.

    A configuration that was not resolved, or a damaged file, can have a text in its place, which becomes None.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LARGEST:
        return None
    return value if isfinite(value) else None


def text(value: object) -> str | None:
    """Return the value as a text, or None where there is none."""
    return None if value is None else str(value)
