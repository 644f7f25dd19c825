"""Run networks as they were written, although torch.compile was called on them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_compilation() -> Iterator[None]:
    """Let compiled functions run as they were written within a context, with hooks, and let them be traced."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled
        yield
        return
    from torch._dynamo import config

    with torch.compiler.set_stance("force_eager"), config.patch(error_on_nested_fx_trace=False):
        yield
