"""advfool: fool neural network interpretations by adversarial model manipulation, and measure it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advfool.library.audit import audit_interpreters
    from advfool.library.compare import compare
    from advfool.library.explain import explain
    from advfool.library.fool import fool
    from advfool.library.interpreters import list_foolings, list_interpreters, list_models
    from advfool.library.load_fooled import load_fooled
    from advfool.library.zoo import fooled_card, list_fooled
    from advfool.utilities.config import register
    from advfool.utilities.errors import AdvfoolError, Diverged

_HOMES = {
    "AdvfoolError": "utilities.errors",
    "Diverged": "utilities.errors",
    "audit_interpreters": "library.audit",
    "compare": "library.compare",
    "explain": "library.explain",
    "fool": "library.fool",
    "fooled_card": "library.zoo",
    "list_fooled": "library.zoo",
    "list_foolings": "library.interpreters",
    "list_interpreters": "library.interpreters",
    "list_models": "library.interpreters",
    "load_fooled": "library.load_fooled",
    "register": "utilities.config",
}

__all__ = [
    "AdvfoolError",
    "Diverged",
    "audit_interpreters",
    "compare",
    "explain",
    "fool",
    "fooled_card",
    "list_fooled",
    "list_foolings",
    "list_interpreters",
    "list_models",
    "load_fooled",
    "register",
]


def __getattr__(name: str):
    """Import a public name when it is first used, so that `import advfool` loads neither torch nor matplotlib."""
    if name not in _HOMES:
        raise AttributeError(f"module 'advfool' has no attribute '{name}'")
    return getattr(import_module(f"advfool.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
