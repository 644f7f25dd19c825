"""The facts about each metric as data, and the registry of all metrics."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from jaxtyping import Shaped
from torch import Tensor

from advfool.utilities.errors import AdvfoolError, check_choice

Direction = Literal["higher", "lower"]
Need = Literal["pair of maps", "logits", "box", "network"]
Function = TypeVar("Function", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Metric:
    """State the facts about a metric that gives one value for each image.

    Args:
        name: what tables and files call it.
        function: gives one value for each image, NaN where an image has none. A function that needs only a pair of
            maps is called as `function(original, manipulated)` with heatmaps (n, h, w) of the two networks.
        direction: which values are better for somebody who relies on the network and its heatmaps, `higher` or
            `lower`; None if neither is better.
        range: lowest and highest possible value; None where there is no bound.
        needs: what the function is given: `pair of maps` (heatmaps of both networks for the same images), `logits`,
            `box` (a heatmap and the box of the object) or `network` (a heatmap, and the network, which is run).
    """

    name: str
    function: Callable[..., Shaped[Tensor, "n"]]
    direction: Direction | None
    range: tuple[float | None, float | None]
    needs: tuple[Need, ...]


METRICS: dict[str, Metric] = {}  # in the order of registration, which is that of the tables


def metric(
    *,
    range: tuple[float | None, float | None],
    needs: tuple[Need, ...],
    direction: Direction | None = None,
    name: str | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function as a metric; the arguments are the facts that `Metric` describes.

    Args:
        range: lowest and highest possible value; None where there is no bound.
        needs: what the function is given.
        direction: `higher` or `lower`, whichever is better, or None.
        name: what tables and files call the metric; None for the function's own name.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        AdvfoolError: the name is taken by another function or is no word, or a fact is not one of the known words.

    >>> import torch
    >>> from advfool.metrics import METRICS, metric
    >>> @metric(needs=("pair of maps",), direction="lower", range=(0, None))
    ... def largest_change(original, manipulated):
    ...     return (original - manipulated).abs().amax(dim=(1, 2))
    >>> METRICS.pop("largest_change").function(torch.zeros(2, 3, 3), torch.ones(2, 3, 3))
    tensor([1., 1.])
    """
    if direction is not None:
        check_choice("metric: direction", direction, Direction)
    for need in needs:
        check_choice("metric: needs", need, Need)

    def register(function: Function) -> Function:
        chosen = name or function.__name__
        if not re.fullmatch(r"\w+", chosen):
            raise AdvfoolError(f"metric: expected a name of letters, digits and underscores, got {chosen!r}.")
        known = METRICS.get(chosen)
        if known is not None and _place(known.function) != _place(function):
            raise AdvfoolError(
                f"metric: expected a name that is not taken, got {chosen!r}, which is {_place(known.function)}. Give "
                "another name: @metric(name=..., ...)."
            )
        METRICS[chosen] = Metric(chosen, function, direction, range, needs)
        return function

    return register


def _place(function: Callable[..., Tensor]) -> str:
    """Return where a function is defined; it is the same after its module was loaded again."""
    return f"{function.__module__}.{function.__qualname__}"
