"""Heatmaps to fool, and what counts as fooled."""

import math
from fractions import Fraction

import numpy as np
import torch
from hypothesis import strategies as st

from advfool.foolings import Location
from advfool.foolings.base import CompositeFooling

BOX = (0.1, 0.3, 0.65, 1.0)


LOCATIONS = {
    "frame": Location(),
    "corner": Location(mask="corner"),
    "box": Location(box=BOX),
    "box_inside": Location(box=BOX, inside=-1),
}


shapes = st.tuples(st.integers(1, 4), st.integers(7, 10), st.integers(7, 10))


seeds = st.integers(0, 10_000)


def maps(fooling, n=5, height=7, width=9, seed=0, signed=False):
    """Heatmaps of the manipulated network, in [0, 1], or [-1, 1] where signed, and what they are compared with."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, 2, height, width) if isinstance(fooling, CompositeFooling) else (n, height, width)
    found = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    manipulated, original = (2 * found - 1 if signed else found).unbind()
    if fooling.needs_another_class:
        original = torch.stack([original, original.roll(1, dims=-1)], dim=1)
    return manipulated, original


def fooled(fooling, test_loss):
    low, high = fooling.interval
    return ((test_loss >= low) & (test_loss <= high)).tolist()


def by_equation_4(heatmap, original, k, p):
    """The mean instead of the paper's sum; ties by index."""
    places = sorted(np.ndindex(*original.shape), key=lambda place: (-original[place], place))
    top = places[: math.ceil(Fraction(str(k)) * len(places) / 100)]
    return sum(abs(heatmap[place]) ** p for place in top) / len(top)


def each(oracle, heatmaps, original, *options):
    pairs = zip(heatmaps.numpy(), original.numpy(), strict=True)
    return torch.tensor([oracle(*pair, *options) for pair in pairs], dtype=torch.float64)


EMPTY = {"zero": 0.0, "constant": 0.5, "one": 1.0, "minus_zero": -0.0}
