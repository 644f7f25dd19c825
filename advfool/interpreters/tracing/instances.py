"""Let recorded values count as instances of the classes of the values that they stand for."""

import builtins
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torchvision.transforms.v2.functional import _utils as transforms

from advfool.interpreters.tracing.proxies import Traced


@contextmanager
def values_are_instances() -> Iterator[None]:
    """Let `isinstance(x, Tensor)` and `isinstance(size, int)` be true of recorded values within a context.

    A false `__class__` would do so, too, but torch's C code would believe it and crash (`torch.where(mask, x, 0.0)`).
    """
    original = builtins.isinstance
    registries = list(transforms._KERNEL_REGISTRY.values())  # the functions of transforms look up types themselves
    for registry in registries:
        if Tensor in registry:
            registry[Traced] = registry[Tensor]
    # A lambda, because what checks the types of functions (jaxtyping) calls isinstance itself.
    builtins.isinstance = lambda thing, kind, /: (
        original(thing, kind)
        or (
            type(thing) is Traced
            and original(value := vars(thing).get("value"), Tensor | int | float)
            and original(value, kind)
        )
    )
    try:
        yield
    finally:
        builtins.isinstance = original
        for registry in registries:
            registry.pop(Traced, None)
