"""Check values against the types that signatures state, and say in one line what was expected.

A constructor or function states types, ranges and choices once, in its signature: `lr: Positive`, `steps: Count`,
`select: Literal["best", "last"]`. `checked` (of functions) and `check_fields` (of dataclasses) refuse other values that
Python code gives; a configuration is checked against the same signatures before anything is built.

A whole number counts as a number; true and false are no numbers, texts of digits are none either, and NaN and infinity
are refused everywhere.
"""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache, partial, wraps
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import jaxtyped
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from advfool.utilities.errors import AdvfoolError, nearest
from advfool.utilities.kinds import MOST
from advfool.utilities.wording import describe, shown

P = ParamSpec("P")
T = TypeVar("T")
_PLAIN = (int, float, str, bool, type(None), Any, object, Path)
_CONFIG = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def check(hint: Any, value: object, key: str, null: str = "None") -> None:
    """Check a value against a type.

    Args:
        hint: a type as in a signature; one that cannot be checked allows everything.
        value: what was given.
        key: how the message calls it.
        null: how the message calls None.

    Raises:
        AdvfoolError: the value is of another type, out of its range, or not finite.
    """
    adapter = _adapter(hint)
    if adapter is None:
        return
    try:
        adapter.validate_python(value.item() if isinstance(value, np.generic) else value)
    except ValidationError as error:
        large = isinstance(value, int) and abs(value) > MOST
        raise AdvfoolError(f"{key} must be {describe(hint, null, large)}, got {shown(value, null)}.") from error


class Checked:
    """Refuse arguments that a dataclass does not have, before its fields are set (a mixin of dataclasses)."""

    def __new__(cls, *args: object, **kwargs: object):
        if args or kwargs:
            _bound(inspect.signature(cls.__init__), cls.__qualname__, (None, *args), kwargs)
        return super().__new__(cls)


def check_fields(instance: Any) -> None:
    """Check the fields of a dataclass against their types, in its `__post_init__`.

    Raises:
        AdvfoolError: a value does not fit; the message names the field.
    """
    hints = _hints(type(instance))
    for field in fields(instance):
        value = getattr(instance, field.name)
        if field.init and field.name in hints and (field.default is MISSING or value is not field.default):
            check(hints[field.name], value, field.name)


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Check the arguments of a function or constructor against its signature before each call.

    Tensors have the form that their type states, and the sizes that several arguments have in common are equal.

    Raises:
        AdvfoolError: a value does not fit, there is no such argument, or one is missing; the message names it.
    """
    signature = inspect.signature(function)
    of, hints = function.__qualname__.removesuffix(".__init__"), _hints(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = _bound(signature, of, args, kwargs)
        with jaxtyped("context"):  # remembers the sizes of the tensors before
            for name, value in bound.arguments.items():
                parameter = signature.parameters[name]
                if name in hints and value is not parameter.default:
                    several = value.items() if parameter.kind is parameter.VAR_KEYWORD else [(name, value)]
                    for each, inner in several:
                        _check_with_others(hints[name], inner, each, bound.arguments)
        return function(*args, **kwargs)

    return call


def _check_with_others(hint: Any, value: object, key: str, given: Mapping[str, object]) -> None:
    try:
        check(hint, value, key)
    except AdvfoolError:
        with jaxtyped("context"):
            check(hint, value, key)  # alone
        others = [f"{name} {shown(other)}" for name, other in given.items() if name != key and hasattr(other, "shape")]
        raise AdvfoolError(
            f"{key} must be {describe(hint)}, of the sizes that the other arguments have ({', '.join(others)}), got "
            f"{shown(value)}."
        ) from None


def _bound(
    signature: inspect.Signature, of: str, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> inspect.BoundArguments:
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        raise AdvfoolError(f"{of}: {_unbound(str(error), kwargs, signature)}.") from error


def _unbound(problem: str, given: Mapping[str, object], signature: inspect.Signature) -> str:
    known = [name for name in signature.parameters if name != "self"]
    unknown = [name for name in given if name not in known]
    if unknown:
        return f"there is no argument '{unknown[0]}'. Close to it: {nearest(unknown[0], known, 3)}"
    return problem


@cache
def _hints(thing: Any) -> dict[str, Any]:
    """Read the types of a class's fields or a function's parameters; none where a name in them is unknown."""
    try:
        return get_type_hints(thing, include_extras=True)
    except (NameError, TypeError):
        return {}


_adapters: dict[int, tuple[Any, TypeAdapter | None]] = {}


def _adapter(hint: Any) -> TypeAdapter | None:
    """Make what checks values of a type, once; None for a type that cannot be checked."""
    if id(hint) not in _adapters:
        try:
            adapter = TypeAdapter(_schema(hint), config=_CONFIG)
        except (PydanticUserError, TypeError):
            adapter = None
        _adapters[id(hint)] = (hint, adapter)  # the hint is kept, so that its id is not given to another
    return _adapters[id(hint)][1]


def _schema(hint: Any) -> Any:
    """Translate a type so that classes are only asked for, not rebuilt, and a list may stand for a tuple."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(_schema(args[0]), *hint.__metadata__)]  # type: ignore[return-value]
    if origin in (Union, types.UnionType):
        return Union[tuple(_schema(arg) for arg in args)]  # noqa: UP007 - the members are known only now
    if origin is Literal:
        return Annotated[hint, BeforeValidator(lambda value: _of_same_kind(value, args))]
    if origin is tuple:
        return Annotated[tuple[tuple(arg if arg is ... else _schema(arg) for arg in args)], Strict(False)]  # type: ignore[misc]
    if origin is Sequence:
        return Annotated[list[_schema(args[0])], BeforeValidator(_listed)]  # type: ignore[misc]
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence | Mapping):
        return origin[tuple(_schema(arg) for arg in args)]  # type: ignore[index]
    if origin is not None and issubclass(origin, Callable):  # type: ignore[arg-type]
        return Callable
    if hint in _PLAIN or not inspect.isclass(hint) or hint in (Mapping, Sequence, dict, list, tuple):
        return hint
    return Annotated[object, AfterValidator(partial(_instance, hint))]


def _instance(kind: type, value: object) -> object:
    if not isinstance(value, kind):
        raise ValueError("of another class")
    return value


def _listed(value: object) -> object:
    """Make a list of any sequence that is no text; other values stay, to be refused."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return value.tolist()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def _of_same_kind(value: object, choices: Sequence[object]) -> object:
    """Refuse True where 1 is a choice."""
    if type(value) not in {type(choice) for choice in choices}:
        raise ValueError("of another type")
    return value
