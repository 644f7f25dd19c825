"""Describe a layer to the rule that shares its relevance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from advfool.interpreters.lrp.linear import LinearMap


@dataclass(frozen=True)
class Layer:
    """Describe one node of the graph to its rule; only what the rule reads is given.

    Args:
        inputs: the values that receive relevance.
        output: the node's value.
        call: runs the node on other inputs.
        linear: the node's linear map, if it has one.
        nonnegative: whether the first input cannot be negative.
    """

    inputs: Sequence[Tensor | tuple[Tensor, ...]] = ()
    output: Tensor | None = None
    call: Callable[..., Any] | None = None
    linear: LinearMap | None = None
    nonnegative: bool = False

    @property
    def tensors(self) -> list[Tensor]:
        """The inputs of a node that takes tensors only."""
        return cast(list[Tensor], list(self.inputs))

    @property
    def value(self) -> Tensor:
        """The node's value, for rules with `reads_output`."""
        assert self.output is not None
        return self.output

    @property
    def linear_map(self) -> LinearMap:
        """The linear map, for rules of convolutions and linear layers."""
        assert self.linear is not None
        return self.linear

    def run(self, *inputs: Tensor | tuple[Tensor | None, ...]) -> Any:
        """Run the node on other inputs."""
        assert self.call is not None
        return self.call(*inputs)
