"""Describe functions and objects, and what they read from outside, so that a change of it can be noticed."""

import functools
import os
import sys
import types
import weakref
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

PLAIN = (int, float, complex, str, bytes, type(None), Enum, torch.dtype, torch.device, torch.Size)
_DEPTH, _LENGTH = 6, 1000  # what lies deeper, or in longer containers, counts by identity
_SETTLED = {"torch", "torchvision", "timm", "numpy", "advfool", "lightning", "pytorch_lightning", "transformers"}
_SETTLED |= sys.stdlib_module_names  # packages whose functions are not looked into
_ENVIRONMENT = {"environ", "getenv"}


class Describer:
    """Describe values so that descriptions are equal where nothing changed; each object is looked into once."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, PLAIN):
            return type(value), value
        if depth >= _DEPTH or id(value) in self.seen or isinstance(value, Tensor):
            return Same(value)
        self.seen.add(id(value))
        if isinstance(value, np.ndarray):
            return value.tobytes() if value.nbytes <= _LENGTH else Same(value)
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._container(value, depth)
        if isinstance(value, type):
            return self.kind(value, depth + 1)
        return self._called(value, depth)

    def kind(self, kind: type, depth: int) -> tuple[Any, ...]:
        """Describe the methods and flags of a class and its bases, but for those of torch."""
        self.seen.add(id(kind))
        found: list[Any] = [Same(kind)]
        for base in kind.__mro__:
            if base is not object and not of_torch(base) and (depth < 2 or not _settled(base)):
                found += [(n, self(v, depth)) for n, v in list(vars(base).items()) if _steers(n)]
        return tuple(found)

    def other(self, value: Any, depth: int) -> Any:
        """Describe an object by its class and its attributes."""
        if isinstance(value, types.ModuleType) or _settled(type(value), {"lightning", "pytorch_lightning"}):
            return Same(value)
        names = [name for base in type(value).__mro__ for name in _slots(base)]
        slots = tuple((name, self(getattr(value, name), depth + 1)) for name in names if hasattr(value, name))
        inner = tuple((name, self(item, depth + 1)) for name, item in list(getattr(value, "__dict__", {}).items()))
        own = () if _settled(type(value)) or not (inner or slots or callable(value)) else self(type(value), depth + 1)
        return Same(value), inner, slots, own

    def _container(self, value: Any, depth: int) -> Any:
        if len(value) > _LENGTH:
            return len(value), id(value)
        if isinstance(value, Mapping):
            kept = [(key, item) for key, item in list(value.items()) if not _activation(item)]
            return tuple((repr(key), self(item, depth + 1)) for key, item in kept)
        if isinstance(value, list | tuple):
            return tuple(self(item, depth + 1) for item in value if not _activation(item))
        return frozenset(map(repr, value))

    def _called(self, value: Any, depth: int) -> Any:
        """Describe what can be called, or holds what can be; anything else as an object."""
        if isinstance(value, types.FunctionType):
            return self._function(value, depth)
        if isinstance(value, types.MethodType):
            owner = value.__self__
            kept = id(owner) if isinstance(owner, torch.nn.Module) else self(owner, depth + 1)
            return self(value.__func__, depth), kept
        if isinstance(value, functools.partial):
            return Same(value), self((value.func, value.args, value.keywords), depth)
        if isinstance(value, staticmethod | classmethod):
            return self(value.__func__, depth)
        if isinstance(value, property):
            return self(value.fget, depth)
        return self.other(value, depth)

    def _function(self, function: types.FunctionType, depth: int) -> Any:
        code = function.__code__
        found: list[Any] = [Same(function), Same(code)]
        names, known = _names(code), function.__globals__
        if _settled(function):
            return (*found, *((n, known[n]) for n in names if isinstance(known.get(n), int | float | str)))
        found += [(n, self._outside(known[n], names, depth + 1)) for n in names if n in known]
        found += [self(_content(cell), depth + 1) for cell in function.__closure__ or ()]
        found += [self(item, depth + 1) for item in (function.__defaults__, function.__kwdefaults__, vars(function))]
        if _ENVIRONMENT & names.keys():
            found.append(hash(frozenset(os.environ.items())))
        return tuple(found)

    def _outside(self, value: Any, names: Mapping[str, None], depth: int) -> Any:
        if not isinstance(value, types.ModuleType):
            return Same(value) if isinstance(value, type) and _settled(value) else self(value, depth)
        if _settled(value):
            return id(value)
        return tuple((name, self(vars(value)[name], depth)) for name in names if name in vars(value))


class Same:
    """Compare an object by identity without keeping it alive."""

    __slots__ = ("reference",)

    def __init__(self, value: Any) -> None:
        try:
            self.reference = weakref.ref(value)
        except TypeError:  # the few kinds of objects that have no weak references are kept
            self.reference = lambda: value

    def __eq__(self, other: object) -> bool:
        mine = self.reference()
        return isinstance(other, Same) and mine is not None and mine is other.reference()

    __hash__ = None  # pyright: ignore[reportAssignmentType] - only compared


def of_torch(kind: type) -> bool:
    """Return whether a class is one of torch's own."""
    return kind.__module__.startswith("torch.")


def _activation(value: Any) -> bool:
    """Return whether a value may be one that a hook collects in each pass."""
    return isinstance(value, Tensor) and value.numel() > 1


def _steers(name: str) -> bool:
    return name == "__call__" or not name.startswith("__")


def _settled(thing: Any, roots: set[str] | frozenset[str] = frozenset(_SETTLED)) -> bool:
    """Return whether a function, class or Python module belongs to a package that is not looked into."""
    home = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return isinstance(home, str) and home.partition(".")[0] in roots


def _slots(kind: type) -> Iterator[str]:
    slots = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return (name for name in names if not name.startswith("__"))


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> dict[str, None]:
    """Return the names that a function's code and the functions within it read, in order."""
    inner = [name for value in code.co_consts if isinstance(value, types.CodeType) for name in _names(value)]
    return dict.fromkeys([*code.co_names, *inner])


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # still empty
        return None
