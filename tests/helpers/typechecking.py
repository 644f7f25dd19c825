"""How signatures are checked while testing: shapes by jaxtyping, types by beartype; an int is good enough a float.

Dataclasses that check their own fields (`check_fields`) are left to it: their errors are what users see.
"""

import inspect
from collections.abc import Callable
from functools import wraps

from beartype import BeartypeConf, beartype

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable) -> Callable:
    checked = _beartype(function)
    if not function.__qualname__.endswith(".__init__"):
        return checked

    @wraps(function)
    def call(self, *args, **kwargs):
        return (function if _checks_itself(type(self)) else checked)(self, *args, **kwargs)

    return call


def _checks_itself(kind: type) -> bool:
    methods = (inspect.unwrap(ancestor.__dict__.get("__post_init__", len)) for ancestor in kind.__mro__)
    return any("check_fields" in method.__code__.co_names for method in methods if hasattr(method, "__code__"))
