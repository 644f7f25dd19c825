"""What a rule sees of a layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from advfool.interpreters.lrp.linear import LinearMap


@dataclass(frozen=True)
class Layer:
    """One node of the graph, as its rule sees it.

    inputs: the values that relevance is given to, tensors or tuples of tensors. output: the value, where the rule
    reads it. call: runs the node on other inputs. linear: its linear map, if it has one. nonnegative: whether the
    first input cannot be negative. A rule that reads no input gets none of these.
    """

    inputs: Sequence[Tensor | tuple[Tensor, ...]] = ()
    output: Tensor | None = None
    call: Callable[..., Tensor | tuple[Tensor, ...]] | None = None
    linear: LinearMap | None = None
    nonnegative: bool = False
