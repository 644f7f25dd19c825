"""Replace the in-place operations of a graph by ordinary ones."""

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from advfool.interpreters.tracing.graph import alias, target_name, with_item
from advfool.utilities.errors import AdvfoolError

FRESH = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)  # return new tensors
UNTOUCHED = (nn.Identity, nn.modules.dropout._DropoutNd)  # return their input in eval mode
SHARING = (nn.Flatten, nn.Unflatten, *UNTOUCHED)  # return views or their input in eval mode
DROPOUTS = {
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "stochastic_depth"),
}
VIEWS = {
    *("flatten", "view", "view_as", "reshape", "chunk", "split", "unbind", "getitem", "transpose", "permute"),
    *("squeeze", "unsqueeze", "expand", "unflatten", "narrow", "select", "swapaxes", "movedim", "contiguous", "alias"),
    *("detach", "data"),
    *DROPOUTS,
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
        names = _other_names(node, overwritten, modules, order)
        if other := _used_through_a_view(node, names, modules, order):
            raise AdvfoolError(
                f"LRP cannot follow '{node.name}', which overwrites values that '{other.name}' shares and that are "
                "used later. Make the operation not in-place, or use a gradient-based interpreter."
            )
        for name in names:
            name.replace_all_uses_with(node, lambda user, node=node: order[user] > order[node])
        fresh = overwritten.target is operator.add or (
            overwritten.op == "call_module" and isinstance(modules[target_name(overwritten)], FRESH)
        )
        shared = any(_is_view(user, modules) for user in overwritten.users if user is not node)
        if fresh and not shared and (node.op == "call_module" or node.target is operator.add):
            overwriting.add(node)
    return frozenset(overwriting)


def _other_names(
    node: fx.Node, overwritten: fx.Node, modules: Mapping[str, nn.Module], order: dict[fx.Node, int]
) -> list[fx.Node]:
    """Return the nodes before `node` whose value is the overwritten tensor as a whole, in the same shape."""
    root = overwritten
    while _is_whole(root, modules):
        root = root.all_input_nodes[0]
    return _reached(node, root, order, lambda user: _is_whole(user, modules))


def _used_through_a_view(
    node: fx.Node, names: list[fx.Node], modules: Mapping[str, nn.Module], order: dict[fx.Node, int]
) -> fx.Node | None:
    """Find a node that shares the memory which `node` overwrites, is none of its names and is used after it."""
    root = names[0]
    while _is_view(root, modules):
        root = root.all_input_nodes[0]
    group = _reached(node, root, order, lambda user: _is_view(user, modules))
    others = (n for n in group if n not in names)
    return next((n for n in others if any(order[user] > order[node] for user in n.users)), None)


def _reached(
    node: fx.Node, root: fx.Node, order: dict[fx.Node, int], follows: Callable[[fx.Node], bool]
) -> list[fx.Node]:
    """Return a root and the nodes before `node` that are reached from it over nodes that `follows` accepts."""
    group = [root]
    for found in group:
        group += [u for u in found.users if order[u] < order[node] and follows(u) and u not in group]
    return group


def _is_whole(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether a node returns its input itself, whatever the layout and type of the input."""
    if node.op == "call_module":
        module = modules[target_name(node)]
        return isinstance(module, UNTOUCHED) and not module.training
    if node.target is alias:
        return True
    if node.op != "call_function" or _name(node) not in DROPOUTS or not inspect.isfunction(node.target):
        return False
    bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return bound.arguments["training"] is False


def _is_view(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[target_name(node)], SHARING)
    return node.op in ("call_method", "call_function") and _name(node) in VIEWS


def _name(node: fx.Node) -> str:
    """Return the name of a node's function, method or attribute, or nothing."""
    if node.op == "call_method":
        return target_name(node)
    if node.op != "call_function":
        return ""
    return str(node.args[1]) if node.target is getattr else getattr(node.target, "__name__", "")


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
