"""The errors a user can cause and mend: shown as a message, never as a traceback."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import get_args

from advfool.utilities.text import printable

_WORKER_MARK = "advfool.utilities.errors.AdvfoolError: "


class AdvfoolError(Exception):
    """Something the user can put right; the message says what was expected, what was found and what to do.

    `exit_code` is what a command ends with (1).
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        # A data loader's worker re-raises with its whole traceback as text: keep the message behind it.
        super().__init__(printable(message.rpartition(_WORKER_MARK)[2].strip()))


class Diverged(AdvfoolError):
    """Training destroyed the classifier (exit code 2); the last good checkpoint is kept."""

    exit_code = 2


def with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from or during, and so on; each once, since they may name each other."""
    seen: set[int] = set()
    left: BaseException | None = error
    while left is not None and id(left) not in seen:
        seen.add(id(left))
        yield left
        left = left.__cause__ or left.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none, ending with a full stop.

    >>> first_line(ValueError("no number"))
    'no number.'
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if line.endswith(".") else f"{line}."


def nearest(word: str, words: list[str], limit: int = 8) -> str:
    """The entries of `words` closest to `word`, most similar first, as text for an error message.

    >>> nearest("layr4", ["layer4", "fc"])
    'layer4, fc'
    """
    ranked = sorted(words, key=lambda other: -SequenceMatcher(None, word, other).ratio())
    return ", ".join(ranked[:limit])


def check_choice(name: str, value: object, choices: object) -> None:
    """Raises an AdvfoolError unless `value` is one of the words of a Literal type."""
    if value not in get_args(choices):
        raise AdvfoolError(f"{name} must be one of {', '.join(map(str, get_args(choices)))}, got {value!r}.")
