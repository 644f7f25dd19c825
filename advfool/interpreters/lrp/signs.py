"""Find values that cannot be negative, whatever the images and weights."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import fx, nn

from advfool.interpreters.lrp import operations as kinds
from advfool.interpreters.lrp.dependence import is_number, sources
from advfool.interpreters.lrp.keys import key_of
from advfool.interpreters.lrp.steps import argument
from advfool.interpreters.tracing.graph import Trace, target_name

KEEPING = (kinds.AVERAGE, kinds.MAXIMUM, kinds.REORDER, kinds.CONCATENATION, kinds.UNCHANGED, kinds.SUM)


class Signs:
    """Say which nodes have values that cannot be negative.

    Args:
        trace: the network's graph.
        excepted: says for a node that nothing is known of it.
    """

    def __init__(self, trace: Trace, excepted: Callable[[fx.Node], bool]) -> None:
        self.trace, self.excepted = trace, excepted
        self._known: dict[fx.Node, bool] = {}

    def nonnegative(self, node: fx.Node) -> bool:
        """Return whether the node's value is nonnegative for all images and weights."""
        if node not in self._known:
            self._known[node] = self._nonnegative(node)
        return self._known[node]

    def _nonnegative(self, node: fx.Node) -> bool:
        key = key_of(node, self.trace.modules)
        if key in kinds.RELU or key in kinds.GATE:
            return True
        if key is nn.Hardtanh:
            module = self.trace.modules[target_name(node)]
            return isinstance(module, nn.Hardtanh) and module.min_val >= 0
        inputs = [n for n in sources(node, self.trace) if not is_number(n)]
        if key in kinds.SUM and (len(inputs) < 2 or "alpha" in node.kwargs):
            return False  # a number may be negative
        if not any(key in kind for kind in KEEPING) or self.excepted(node) or _pads_with(node):
            return False
        return bool(inputs) and all(self.nonnegative(n) for n in inputs)


def _pads_with(node: fx.Node) -> bool:
    """Return whether the node pads with a value that is given as an argument."""
    return node.target is F.pad and argument(node, 3, "value") is not None
