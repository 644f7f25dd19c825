"""Find the key by which a node's rule is looked up, and describe nodes without a rule."""

import operator
from collections.abc import Mapping

import torch
from torch import fx, nn

from advfool.interpreters.lrp.operations import DECISION, KIND_OF, KINDS, MAXIMUM, Key
from advfool.interpreters.lrp.steps import argument
from advfool.interpreters.tracing.graph import target_name
from advfool.interpreters.tracing.kinds import full_name, torch_class
from advfool.utilities.errors import AdvfoolError, nearest

EXAMPLES = 4  # operations of a kind that an error names


def key_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> Key:
    """Return the key that rules are looked up by: a module's class, a function, a method's or an attribute's name.

    A subclass that uses the forward method of a torch class has the key of that class. Nodes that do nothing (the
    image, parameters) have the name of their kind, such as `get_attr`, which no rule has.

    Args:
        node: a node of the graph.
        modules: the modules that the graph calls, by name.
    """
    if node.op in ("placeholder", "get_attr", "output"):
        return node.op
    if node.target is getattr:
        return str(node.args[1])
    if node.op != "call_module":
        return node.target
    kind = type(modules[target_name(node)])
    return name if (name := full_name(kind)) in KIND_OF else torch_class(kind) or kind


def no_rule(node: fx.Node, key: Key, reason: str = "") -> AdvfoolError:
    """Return the error for a node without a rule, which says where it is and how to add a rule.

    Args:
        node: the node.
        key: the key of its missing rule.
        reason: a circumstance in which the operation has no rule, to follow its name.
    """
    name = name_of(key)
    where = list(node.meta.get("nn_module_stack", {}).values())
    place = where[-1][0] if where else target_name(node) if node.op == "call_module" else ""
    dotted = f"torch.{name}" if getattr(torch, name, None) is key else f"{getattr(key, '__module__', '')}.{name}"
    dotted = name if isinstance(key, str) else dotted.removeprefix("_")
    known = sorted({name_of(key) for key in KIND_OF})
    return AdvfoolError(
        f"LRP has no rule for {name} (node '{node.name}'{f' in {place!r}' if place else ''}){reason}. Give it one, "
        f"e.g. interp.rules={{{dotted}: pass}} (pass, norm or route; in Python rules={{...: a Rule}}), or use a "
        f"gradient-based interpreter. Close to it: {nearest(name, known)}. Operations with rules: {_operations()}."
    )


def _operations() -> str:
    """Return all kinds with examples; the documentation lists all operations."""
    found = []
    for kind in KINDS:
        if kind is not DECISION:
            names = sorted({name_of(key) for key in kind.keys}, key=lambda name: (name.islower(), name))
            more = ", ..." if len(names) > EXAMPLES else ""
            found.append(f"{kind.title} ({', '.join(names[:EXAMPLES])}{more})")
    return "; ".join(found)


def name_of(key: Key) -> str:
    """Return the short name of a key."""
    return key.rsplit(".", 1)[-1] if isinstance(key, str) else getattr(key, "__name__", str(key)).lstrip("_")


def picks_indices(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether the node takes the indices out of a pair of values and indices, such as `x.max(1)[1]`."""
    if node.target is getattr:
        return str(node.args[1]) == "indices"
    if node.target is not operator.getitem or not isinstance(node.args[1], int):
        return False
    return node.args[1] == 1 and _returns_pair(node.all_input_nodes[0], modules)


def _returns_pair(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether the node returns values and their indices."""
    key = key_of(node, modules)
    if node.op == "call_module":
        return key in MAXIMUM and bool(getattr(modules[target_name(node)], "return_indices", False))
    name = name_of(key)
    along = isinstance(argument(node, 1, "dim"), int)  # x.max() returns one tensor
    return name.endswith("with_indices") or name in ("topk", "sort") or (name in ("max", "min") and along)
