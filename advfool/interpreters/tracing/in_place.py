"""Replace the in-place operations of a graph by ordinary ones."""

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from advfool.interpreters.tracing.graph import target_name, with_item
from advfool.utilities.errors import AdvfoolError

FRESH = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)  # return new tensors
SHARING = (
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
)  # return views or their input in eval mode
VIEWS = {
    *("flatten", "view", "view_as", "reshape", "chunk", "split", "unbind", "getitem", "transpose", "permute"),
    *("squeeze", "unsqueeze", "expand", "unflatten", "narrow", "select", "swapaxes", "movedim", "contiguous", "alias"),
    *("dropout", "stochastic_depth"),
}
IN_PLACE_OPERATORS: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.setitem: with_item,
}


def remove_in_place(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> frozenset[fx.Node]:
    """Replace in-place operations; later uses of an overwritten value become uses of the new value.

    Args:
        graph: the graph to change.
        modules: the modules that the graph calls, by name.

    Returns:
        The replaced nodes whose first input is a new tensor without views: they may run in place where that input
        is not kept.

    Raises:
        AdvfoolError: the overwritten values are used later through a view.
    """
    order = {node: position for position, node in enumerate(graph.nodes)}
    overwriting: set[fx.Node] = set()
    for node in graph.nodes:
        if not _take_out_of_place(node, modules):
            continue
        overwritten = node.all_input_nodes[0]
        if other := _used_through_a_view(node, overwritten, modules, order):
            raise AdvfoolError(
                f"LRP cannot follow '{node.name}', which overwrites values that '{other.name}' shares and that are "
                "used later. Make the operation not in-place, or use a gradient-based interpreter."
            )
        overwritten.replace_all_uses_with(node, lambda user, node=node: order[user] > order[node])
        fresh = overwritten.target is operator.add or (
            overwritten.op == "call_module" and isinstance(modules[target_name(overwritten)], FRESH)
        )
        shared = any(_is_view(user, modules) for user in overwritten.users if user is not node)
        if fresh and not shared and (node.op == "call_module" or node.target is operator.add):
            overwriting.add(node)
    return frozenset(overwriting)


def _used_through_a_view(
    node: fx.Node, overwritten: fx.Node, modules: Mapping[str, nn.Module], order: dict[fx.Node, int]
) -> fx.Node | None:
    """Find another node that shares the memory which `node` overwrites and is used after it."""
    root = overwritten
    while _is_view(root, modules):
        root = root.all_input_nodes[0]
    group = [root]
    for shared in group:
        group += [user for user in shared.users if user is not node and _is_view(user, modules) and user not in group]
    others = (n for n in group if n is not overwritten)
    return next((n for n in others if any(order[user] > order[node] for user in n.users)), None)


def _is_view(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[target_name(node)], SHARING)
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return node.op in ("call_method", "call_function") and name in VIEWS


def _take_out_of_place(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Make an in-place node an ordinary one and return whether it was in-place; `execute` replaces modules."""
    if node.op == "call_module":
        return bool(getattr(modules[target_name(node)], "inplace", False))
    if node.op == "call_method":
        name = target_name(node)
        in_place = ends_in_place(name)
        if name in ("copy_", "fill_"):
            node.op, node.target, node.args = "call_function", with_item, (node.args[0], (), *node.args[1:2])
            return True
        node.target = name.removesuffix("_") if in_place else name
        return in_place
    if node.op != "call_function":
        return False
    if ordinary := IN_PLACE_OPERATORS.get(node.target):
        node.target = ordinary
        return True
    name = getattr(node.target, "__name__", "")
    for place in (torch, F):
        if ends_in_place(name) and hasattr(place, name.removesuffix("_")):
            node.target = getattr(place, name.removesuffix("_"))
            return True
    if inspect.isfunction(node.target) and "inplace" in inspect.signature(node.target).parameters:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
        in_place = bool(bound.arguments.get("inplace"))
        if in_place:
            bound.arguments["inplace"] = False
            node.args, node.kwargs = bound.args, bound.kwargs
        return in_place
    return False


def ends_in_place(name: str) -> bool:
    """Return whether a method or function of torch has the name of one that overwrites its first argument."""
    return name.endswith("_") and not name.endswith("__")
