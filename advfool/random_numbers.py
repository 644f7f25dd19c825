"""Random numbers by place instead of by turn: the same in any batch, in any process and on any device."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# The constants of SplitMix64 as signed integers of 64 bits.
_STEP, _FIRST, _SECOND = (c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def uniform(seed: int, index: Int[Tensor, "n"], position: Int[Tensor, "#n p"], stream: int = 0) -> Float[Tensor, "n p"]:
    """Uniform numbers in [0, 1), in float64, for the images of these indices at these positions.

    Each depends on its seed, stream, index and position alone. Streams are independent of one another.

    Source: Steele, Lea and Flood 2014 (SplitMix64); a number is the `position`-th output of a generator that starts
    at the `index`-th output of one that starts at the `stream`-th output of the one seeded with `seed`.

    >>> numbers = uniform(0, torch.tensor([5, 7]), torch.arange(3)[None])
    >>> torch.equal(uniform(0, torch.tensor([7]), torch.tensor([[2]])), numbers[1:, 2:])
    True
    """
    start = _output(*(torch.full((), number, device=index.device) for number in (seed, stream)))
    bits = _output(_output(start, index.long())[:, None], position.long())
    return _shifted(bits, 11).double() * 2.0**-53


def _output(start: Int[Tensor, "*a"], count: Int[Tensor, "*b"]) -> Int[Tensor, "*c"]:
    """The output number `count` (from 0) of the generator with this state; sums and products wrap around."""
    bits = start + (count + 1) * _STEP
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Int[Tensor, "*n"], count: int) -> Int[Tensor, "*n"]:
    """To the right, with zeros from the left (torch's own shift repeats the sign)."""
    return (bits >> count) & (2 ** (64 - count) - 1)
