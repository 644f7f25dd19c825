"""Find which values depend on the images; all others are constants."""

from torch import fx
from torch.fx.node import map_arg

from advfool.interpreters.lrp.keys import key_of, picks_indices
from advfool.interpreters.lrp.operations import BLANK, DECISION, LENDING
from advfool.interpreters.tracing.graph import Trace


def dependent_nodes(trace: Trace) -> set[fx.Node]:
    """Return the nodes through whose values the images reach the logits.

    Sizes, new tensors of the same shape, comparisons and indices are none: they count as constants, as do parameters,
    buffers and whatever is computed from constants alone.

    Args:
        trace: the network's graph.
    """
    found: set[fx.Node] = set()
    for node in trace.graph.nodes:
        key = key_of(node, trace.modules)
        if node.op == "placeholder":
            found.add(node)
        elif is_number(node) or key in DECISION or key in BLANK or picks_indices(node, trace.modules):
            continue
        elif any(n in found for n in sources(node, trace)):
            found.add(node)
    return found


def is_number(node: fx.Node) -> bool:
    """Return whether the node's value is a number (a size, arithmetic on sizes) or a type, and not a tensor."""
    return node.meta.get("number", False) or node.target == "stride"


def sources(node: fx.Node, trace: Trace) -> list[fx.Node]:
    """Return the nodes whose values the node uses; one that appears twice (`x * x`) is listed twice.

    Of `x.to(y)`, `x.view_as(y)` and the like this is x alone.

    Args:
        node: a node of the graph.
        trace: the network's graph.
    """
    if node.op == "call_method" and key_of(node, trace.modules) in LENDING:
        return node.all_input_nodes[:1]
    found: list[fx.Node] = []
    map_arg((node.args, node.kwargs), found.append)
    return found
