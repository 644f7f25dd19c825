"""SplitMix64 in Python's whole numbers."""

import torch

INDEX = torch.tensor([7, 2**40, 3])


def splitmix(seed, stream, index, position):
    """Steele, Lea and Flood 2014, Figure 16, in Python's whole numbers."""

    def output(state, count):
        z = (state + (count + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    return (output(output(output(seed, stream), index), position) >> 11) / 2**53
