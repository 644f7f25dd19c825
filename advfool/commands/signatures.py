"""What a constructor takes, read from its signature and from those that it hands further arguments to."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from hydra.utils import get_object

from advfool.commands.foreign import foreign_parameters
from advfool.utilities.errors import AdvfoolError, nearest


@dataclass(frozen=True)
class Signature:
    """What a constructor takes.

    Args:
        hints: the type of each parameter, by name; Any where none is stated.
        required: names of the parameters without a default.
        open: whether further parameters may be given, whose names are not known.
    """

    hints: dict[str, Any]
    required: tuple[str, ...]
    open: bool


def find(target: object, key: str) -> Any:
    """Find the class or function that a configuration names.

    Args:
        target: its dotted name.
        key: of the configuration, for the message.

    Raises:
        AdvfoolError: it is no name, or there is no such class or function.
    """
    if not isinstance(target, str) or "." not in target:
        raise AdvfoolError(f"{key} must be the dotted name of a class, got {target!r}.")
    try:
        found = get_object(target)
    except Exception as error:  # importing a module may raise anything
        raise AdvfoolError(f"{key}: there is no '{target}'{_close_to(target)} ({_first_line(error)}).") from error
    if not callable(found):
        raise AdvfoolError(f"{key} must be the dotted name of a class, got '{target}', a {type(found).__name__}.")
    return found


def _close_to(target: str) -> str:
    module, _, name = target.rpartition(".")
    try:
        names = [each for each in dir(get_object(module)) if not each.startswith("_")]
    except Exception:
        return ""
    return f"; close to it: {nearest(name, names, 3)}"


def _first_line(error: BaseException) -> str:
    return str(error.__cause__ or error).splitlines()[0] if str(error) else type(error).__name__


@cache
def signature_of(target: Callable, name: str) -> Signature:
    """Read what a constructor takes, with the arguments that it hands on to the constructors of its base classes.

    Args:
        target: class or function.
        name: its dotted name in the configuration.
    """
    hints: dict[str, Any] = {}
    required: list[str] = []
    for place, function in enumerate(_functions(target)):
        takes_more = False
        known = _hints(function)
        for parameter in _parameters(function):
            takes_more = takes_more or parameter.kind is parameter.VAR_KEYWORD
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or parameter.name in hints:
                continue
            hints[parameter.name] = known.get(parameter.name, Any)
            if parameter.default is parameter.empty and place == 0:  # a class gives its base classes what they need
                required.append(parameter.name)
        if not takes_more:
            return Signature(_with_foreign(hints, name), tuple(required), False)
    return Signature(_with_foreign(hints, name), tuple(required), True)


def _with_foreign(hints: dict[str, Any], name: str) -> dict[str, Any]:
    foreign = foreign_parameters(name)
    return {key: foreign.get(key, hint) for key, hint in hints.items()}


def _functions(target: Callable) -> list[Callable]:
    """List the constructors of a class and of its ancestors, or the function alone."""
    if not inspect.isclass(target):
        return [target]
    return [kind.__dict__["__init__"] for kind in target.__mro__[:-1] if "__init__" in kind.__dict__]


def _parameters(function: Callable) -> list[inspect.Parameter]:
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return []
    return [parameter for parameter in found if parameter.name != "self"]


def _hints(function: Callable) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}
