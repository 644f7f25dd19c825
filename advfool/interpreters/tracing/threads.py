"""Coordinate threads that use the same network or the same process-wide settings of torch."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_GUARD = threading.Lock()
_LOCKS: weakref.WeakKeyDictionary[nn.Module, AbstractContextManager[Any]] = weakref.WeakKeyDictionary()


def lock_of(network: nn.Module) -> AbstractContextManager[Any]:
    """Return the reentrant lock that a thread holds while it changes or relies on a network's state.

    Recording a forward pass registers hooks and may replace parameters for a moment.
    """
    with _GUARD:
        if network not in _LOCKS:
            _LOCKS[network] = threading.RLock()
        return _LOCKS[network]


class MathAttention:
    """Select attention without fused kernels, which have no second derivative, while any thread needs it.

    torch has one selection of kernels for the whole process. The first thread to enter the context changes it, and
    the last one to leave restores it.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._users = 0
        self._selected = ExitStack()

    @contextmanager
    def selected(self) -> Iterator[None]:
        """Select the kernels within a context."""
        with self._guard:
            if not self._users:
                self._selected.enter_context(sdpa_kernel(SDPBackend.MATH))
            self._users += 1
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1
                if not self._users:
                    self._selected.close()


MATH_ATTENTION = MathAttention()
