"""Describe what steers a network's forward pass, so that a change of it can be noticed."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from advfool.interpreters.tracing.surroundings import PLAIN, Describer, of_torch

_QUICK = frozenset((int, float, bool, str, type(None)))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def structure(network: nn.Module) -> tuple[Any, ...]:
    """Return a value that differs after a change of what steers the forward pass.

    These are the submodules, their classes, methods, hooks, modes and attributes (also those of objects, lists and
    dicts that they hold), the hooks of all modules, and what methods, hooks and the functions that they call read
    from outside: globals, closures, defaults and environment variables. The values of tensors are not part of it,
    because a graph reads them anew; a tensor outside modules' own attributes counts by identity.

    Args:
        network: the network.
    """
    describe = _Modules()
    named = list(network.named_modules(remove_duplicate=False))
    classes = dict.fromkeys(type(module) for _, module in named)
    everywhere = tuple(describe(hook) for kind in _GLOBAL_HOOKS for hook in global_hooks(kind))
    modules = tuple((name, describe.module(module, 0)) for name, module in named)
    return modules, tuple(describe.kind(kind, 1) for kind in classes if not of_torch(kind)), everywhere


def global_hooks(kind: str) -> list[Any]:
    """Return the hooks that run on every module of the process.

    Args:
        kind: torch's name of them, such as `_global_forward_hooks`.
    """
    return list(getattr(torch_module, kind).values())


class _Modules(Describer):
    """Describe modules and what they hold; the tensors of a module itself only by their presence."""

    def other(self, value: Any, depth: int) -> Any:
        return self.module(value, depth + 1) if isinstance(value, nn.Module) else super().other(value, depth)

    def module(self, module: nn.Module, depth: int) -> tuple[Any, ...]:
        """Describe a module without its submodules."""
        own = vars(module)
        self.seen.add(id(module))
        tensors = tuple(
            (name, value is None) for kind in ("_parameters", "_buffers") for name, value in own.get(kind, {}).items()
        )
        hooks = tuple(self(value, depth) for kind in _HOOKS for value in own.get(kind, {}).values())
        rest = tuple(
            (name, value if type(value) in _QUICK else self._held(value, depth + 1))
            for name, value in list(own.items())
            if name not in _OF_EVERY_MODULE
        )
        return id(module), type(module), module.training, tensors, hooks, rest

    def _held(self, value: Any, depth: int) -> Any:
        if isinstance(value, PLAIN):
            return type(value), value
        return torch.Tensor if isinstance(value, torch.Tensor) else self(value, depth)
