"""Configure the process that a command runs in: memory allocation, warnings and threads."""

import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Tell glibc's malloc not to return large blocks to the system; do nothing on other systems.

    A training step on the CPU repeatedly frees and allocates the same large blocks. Otherwise the system would provide
    new pages each time, with a page fault for every 4 KiB.
    """
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another C library, e.g. musl
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


ADVICE = (
    ".*does not have many workers.*",
    ".*log_every_n_steps.*",
    ".*LeafSpec.*",
    ".*in eval mode at the start of training.*",
    ".*sync_dist=True.*",  # logged values have been reduced already
    ".*DistributedSampler.*",
    "Experiment logs directory .* exists and is not empty.*",
)


def quieten() -> None:
    """Hide Lightning's advice about workers, hardware and frozen modules."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for advice in ADVICE:
        warnings.filterwarnings("ignore", message=advice)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads within a context.

    Args:
        count: number of torch's threads within an operation.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
