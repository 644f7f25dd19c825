"""What each of several training processes has of its own: its random generators, and other values in a checkpoint."""

import random
from typing import Any

import numpy as np
import torch
from torch import distributed

from advfool.utilities.random import random_state, set_random_state


def of_all_processes(value: Any) -> list[Any]:
    """Gather a value of every process, by rank; all processes have to call this."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def of_this_process(values: list[Any], rank: int) -> Any:
    """Choose the value of a process; the first one's where there were fewer processes."""
    return values[rank if rank < len(values) else 0]


def generator_states(device: torch.device) -> dict[str, Any]:
    """Return the states of the random generators of torch, numpy and Python, as tensors and plain values.

    Args:
        device: the device that draws.
    """
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": random_state(device),
        "numpy": [kind, torch.tensor(np.asarray(keys).astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def restore_generators(device: torch.device, states: dict[str, Any]) -> None:
    """Restore what `generator_states` returned."""
    set_random_state(device, states["torch"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
