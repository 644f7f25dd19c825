"""Marks on the keys of a configuration: which nodes describe objects, and of which class."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Builds:
    """Mark a node that describes an object: `_target_` names its class, the other keys are arguments.

    Args:
        kind: dotted name of the class that it has to be of.
        optional: whether null stands for none.
        partial: whether it is built later, from further arguments (`_partial_: true`).
        given: arguments that the command adds.
        default: the class where the node names none.
    """

    kind: str
    optional: bool = False
    partial: bool = False
    given: tuple[str, ...] = ()
    default: str | None = None


@dataclass(frozen=True)
class Each:
    """Mark a node that holds nodes of objects by name, each of them or all null for none.

    Args:
        kind: dotted name of the class that they have to be of.
        shown: what a message calls the node; None: its key.
    """

    kind: str
    shown: str | None = None


@dataclass(frozen=True)
class TakenBy:
    """Mark a node whose values become arguments of a constructor.

    Args:
        kind: dotted name of the constructor.
        given: arguments that the command adds.
        nested: a key with some of the same arguments, or null.
    """

    kind: str
    given: tuple[str, ...] = ()
    nested: str | None = None


def declared(hint: Any, kind: type[Mark]) -> Mark | None:
    """Find the mark of a kind that an annotation carries."""
    if get_origin(hint) is Annotated:
        return next((extra for extra in get_args(hint)[1:] if isinstance(extra, kind)), None)
    return None
