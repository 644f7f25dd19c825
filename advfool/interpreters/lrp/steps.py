"""Define the steps of a walk, and read the arguments of their nodes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import fx
from torch.fx.node import map_arg

from advfool.interpreters.lrp.rules import Rule

CONVOLUTION_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED_NAMES = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
BATCH_NORM_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


@dataclass(frozen=True)
class Step:
    """Share the relevance of one node among its inputs.

    Args:
        node: the node whose relevance is shared.
        inputs: the nodes that receive it.
        rule: says how.
        linear: the convolution or linear node, where there is one; `node` is its batch norm if the two are folded.
        nonnegative: whether the value of the first input cannot be negative.
    """

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    rule: Rule
    linear: fx.Node | None = None
    nonnegative: bool = False

    @property
    def reads(self) -> set[fx.Node]:
        """The nodes whose values the step needs."""
        found: set[fx.Node] = set()
        if self.rule.reads_input:
            for node in {self.node, self.linear or self.node}:
                found.update(node.all_input_nodes)
            if self.linear is not None and self.linear is not self.node:
                found.discard(self.linear)
        if self.rule.reads_output:
            found.add(self.node)
        return found


def argument(node: fx.Node, place: int, name: str) -> Any:
    """Return an argument of a node, which may be given by place or by name, or None."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name)


def layer_arguments(
    node: fx.Node, names: tuple[str, ...], values: Mapping[fx.Node, Any] | None = None
) -> dict[str, Any]:
    """Return the arguments of a functional layer by name, without its input.

    Args:
        node: the layer's node.
        names: the names of its positional arguments.
        values: the values of nodes, which then replace the nodes among the arguments.
    """
    bound = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    bound.pop("input", None)
    return bound if values is None else cast(dict[str, Any], map_arg(bound, values.__getitem__))
