"""How a command ends when it is interrupted, and that no process outlives the one that it works for."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from advfool.utilities.errors import with_causes

PARENT = "ADVFOOL_PARENT"  # environment variable: the process that starts others which have to end with it
INTERVAL = 1.0  # seconds between two looks at the parent


class Interruptions(list[int]):
    """The signals that a command has received."""

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal, as a shell reports it."""
        return 128 + (self[0] if self else signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[Interruptions]:
    """Make SIGTERM raise a KeyboardInterrupt, as SIGINT does, in the main thread; elsewhere nothing is changed."""
    received = Interruptions()

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a script
                before[number] = signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_first() -> Iterator[None]:
    """Raise a KeyboardInterrupt in place of an error that came up while a library ended its work after one."""
    try:
        yield
    except Exception as error:
        if any(isinstance(cause, KeyboardInterrupt) for cause in with_causes(error)):
            raise KeyboardInterrupt from error
        raise


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let an interrupted command end in order: a second Ctrl-C changes nothing."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def parent_of_others() -> Iterator[None]:
    """Name this process to those that it starts."""
    before = os.environ.get(PARENT)
    os.environ[PARENT] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(PARENT)
        if before is not None:
            os.environ[PARENT] = before


def end_with_parent() -> None:
    """End this process when the one that has started it ends, however: also where it is killed.

    It does nothing in a process that no command of advfool has started.
    """
    parent = int(os.environ.get(PARENT, 0))
    if parent and parent != os.getpid() and not _watched:
        _watched.append(parent)
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="advfool-parent").start()


_watched: list[int] = []


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    os._exit(128 + signal.SIGTERM)
