"""Draw random numbers that depend on an image's index, not on the order of draws, batches, processes or devices.

Also save and restore the state of torch's own generators, to repeat their draws.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

# The constants of SplitMix64 as signed integers of 64 bits.
_STEP, _FIRST, _SECOND = (c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def uniform(seed: int, index: Int[Tensor, "n"], position: Int[Tensor, "#n p"], stream: int = 0) -> Float[Tensor, "n p"]:
    """Draw uniform numbers in [0, 1), in float64; each depends only on its seed, stream, index and position.

    Args:
        seed: the seed of all streams.
        index: the index of each image.
        position: the positions of the numbers in each image's sequence, from 0.
        stream: the number of an independent stream.

    Source: Steele, Lea and Flood 2014 (SplitMix64); a number is the `position`-th output of a generator that starts
    at the `index`-th output of one that starts at the `stream`-th output of the one seeded with `seed`.

    >>> numbers = uniform(0, torch.tensor([5, 7]), torch.arange(3)[None])
    >>> torch.equal(uniform(0, torch.tensor([7]), torch.tensor([[2]])), numbers[1:, 2:])
    True
    """
    start = _output(*(torch.full((), number, device=index.device) for number in (seed, stream)))
    bits = _output(_output(start, index.long())[:, None], position.long())
    return _shifted(bits, 11).double() * 2.0**-53


def fingerprint(values: Num[Tensor, "n ..."]) -> Int[Tensor, "n"]:
    """Compute an integer for each entry that depends only on its values in float32; it can serve as an index.

    Args:
        values: the entries, along the first dimension.

    >>> images = torch.rand(3, 2, 2)
    >>> torch.equal(fingerprint(images)[1:], fingerprint(images[1:]))
    True
    """
    bits = values.float().reshape(len(values), values[:1].numel()).view(torch.int32).long()
    weight = _output(torch.zeros_like(bits[:1]), torch.arange(bits.shape[1], device=bits.device)[None])
    return (bits * (2 * weight + 1)).sum(dim=1)


def _output(start: Int[Tensor, "*a"], count: Int[Tensor, "*b"]) -> Int[Tensor, "*c"]:
    """Compute output number `count` (from 0) of the generator with state `start`; sums and products wrap around."""
    bits = start + (count + 1) * _STEP
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Int[Tensor, "*n"], count: int) -> Int[Tensor, "*n"]:
    """Shift bits to the right and fill with zeros; torch's own shift repeats the sign."""
    return (bits >> count) & (2 ** (64 - count) - 1)


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Let the global generators of torch (on the CPU), NumPy and Python draw by a key, and restore them afterwards.

    Args:
        key: decides what is drawn; two keys that differ in any part give independent draws.

    >>> with seeded(0, "flip", 7):
    ...     first = torch.rand(2)
    >>> with seeded(0, "flip", 7):
    ...     print(torch.equal(torch.rand(2), first))
    True
    """
    seed = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest())
    states = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    # Not torch.manual_seed, which would seed the generators of the GPUs as well.
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def random_state(device: torch.device) -> list[Tensor]:
    """Return the state of the torch generators that work on a device draws from.

    Args:
        device: the device.

    Returns:
        The state of the CPU's generator and, for a GPU, that of its own.
    """
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(device: torch.device, state: Sequence[Tensor]) -> None:
    """Restore the state of torch's generators.

    Args:
        device: the device that draws next.
        state: a result of `random_state`; one of a CPU leaves the generator of a GPU unchanged.
    """
    torch.set_rng_state(state[0].cpu())
    if device.type == "cuda" and len(state) > 1:
        torch.cuda.set_rng_state(state[1].cpu(), device)
