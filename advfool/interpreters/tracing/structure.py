"""Describe what steers a network's forward pass, so that a change of it can be noticed."""

import types
import weakref
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (int, float, complex, str, bytes, type(None), Enum, torch.dtype, torch.device, torch.Size)
_QUICK = frozenset((int, float, bool, str, type(None)))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_DEPTH, _LENGTH = 5, 1000  # what lies deeper, or in longer containers, counts by identity


def structure(network: nn.Module) -> tuple[Any, ...]:
    """Return a value that differs after a change of what steers the forward pass.

    These are the submodules, their classes, methods, hooks, modes and attributes (also those of objects, lists and
    dicts that they hold), and the numbers and flags of modules' globals that their methods name. The values of
    tensors are not part of it, because a graph reads them anew.

    Args:
        network: the network.
    """
    named = list(network.named_modules(remove_duplicate=False))
    classes = dict.fromkeys(type(module) for _, module in named)
    return tuple((name, _module(module, 0)) for name, module in named), tuple(_class(kind) for kind in classes)


class _Same:
    """Compare an object by identity without keeping it alive."""

    __slots__ = ("reference",)

    def __init__(self, value: Any) -> None:
        try:
            self.reference = weakref.ref(value)
        except TypeError:  # the few kinds of objects that have no weak references are kept
            self.reference = lambda: value

    def __eq__(self, other: object) -> bool:
        mine = self.reference()
        return isinstance(other, _Same) and mine is not None and mine is other.reference()

    __hash__ = None  # pyright: ignore[reportAssignmentType] - only compared


def _module(module: nn.Module, depth: int) -> tuple[Any, ...]:
    own = vars(module)
    tensors = tuple(
        (name, value is None) for kind in ("_parameters", "_buffers") for name, value in own.get(kind, {}).items()
    )
    hooks = tuple(_frozen(value, depth) for kind in _HOOKS for value in own.get(kind, {}).values())
    rest = tuple(
        (name, value if type(value) in _QUICK else _frozen(value, depth + 1))
        for name, value in list(own.items())
        if name not in _OF_EVERY_MODULE
    )
    return id(module), type(module), module.training, tensors, hooks, rest


def _class(kind: type) -> tuple[Any, ...]:
    """Describe the methods and flags of a class and its bases, but for those of torch."""
    return tuple(
        (name, _frozen(value, _DEPTH - 1))
        for base in kind.__mro__
        if base is not object and not base.__module__.startswith("torch.")
        for name, value in list(vars(base).items())
        if not (name.startswith("__") and name != "__call__")
    )


def _frozen(value: Any, depth: int) -> Any:
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, Tensor | type):
        return id(value) if isinstance(value, type) else Tensor
    if depth >= _DEPTH and not isinstance(value, types.FunctionType):
        return _Same(value)
    if isinstance(value, types.FunctionType):
        return _Same(value), _surroundings(value, depth)
    if isinstance(value, types.MethodType):
        return _Same(value.__func__), id(value.__self__), _surroundings(value.__func__, depth)
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.nbytes <= _LENGTH else _Same(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset) and len(value) > _LENGTH:
        return len(value), id(value)
    if isinstance(value, Mapping):
        return tuple((repr(key), _frozen(item, depth + 1)) for key, item in list(value.items()))
    if isinstance(value, list | tuple):
        return tuple(_frozen(item, depth + 1) for item in value)
    if isinstance(value, set | frozenset):
        return frozenset(map(repr, value))
    if isinstance(value, nn.Module):
        return _module(value, depth + 1)
    if hasattr(value, "__dict__") and not isinstance(value, types.ModuleType):
        inner = tuple((name, _frozen(item, depth + 1)) for name, item in list(vars(value).items()))
        return _Same(value), inner
    return _Same(value)


def _surroundings(function: Any, depth: int) -> tuple[Any, ...]:
    """Describe the plain values that a function reads from its module and its closure."""
    code = getattr(function, "__code__", None)
    if code is None:
        return ()
    known = function.__globals__
    named = tuple((name, known[name]) for name in code.co_names if isinstance(known.get(name), int | float | str))
    cells = (_content(cell) for cell in function.__closure__ or ())
    kept = tuple(_frozen(value, depth + 1) for value in cells if isinstance(value, (*_PLAIN, types.FunctionType)))
    return named, kept if depth < _DEPTH else ()


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # still empty
        return None
