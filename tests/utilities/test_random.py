"""Random numbers that depend on seed, stream, index and position alone."""

import math

import numpy as np
import scipy.ndimage
import scipy.stats
import torch

from advfool.utilities.random import uniform
from tests.helpers.splitmix import INDEX, splitmix


def test_numbers_are_splitmix64():
    places = torch.tensor([[0, 1, 10**12]])
    for seed, stream in ((0, 0), (123, 1), (-1, 0)):
        expected = [[splitmix(seed % 2**64, stream, i, p) for p in places[0].tolist()] for i in INDEX.tolist()]
        assert uniform(seed, INDEX, places, stream).tolist() == expected
    assert uniform(0, INDEX[:1].int(), places)[0, 0] == uniform(0, INDEX[:1], places)[0, 0]


def test_published_outputs_of_splitmix64():
    """The first two of seed 1234567, from Vigna's splitmix64.c."""
    from advfool.utilities.random import _output

    outputs = _output(torch.tensor(1234567), torch.arange(2)).tolist()
    assert [number % 2**64 for number in outputs] == [6457827717110365317, 3203168211198807973]


def test_numbers_are_uniform_and_independent():
    numbers = uniform(0, torch.arange(300), torch.arange(400)[None])
    others = [
        uniform(1, torch.arange(300), torch.arange(400)[None]),
        uniform(0, torch.arange(300), torch.arange(400)[None], stream=1),
        numbers.roll(1, dims=0),
        numbers.roll(1, dims=1),
    ]
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert scipy.stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 0.01
    for along in (0, 1):  # of the images, and of the positions
        counts = np.array([np.histogram(line, bins=10, range=(0, 1))[0] for line in numbers.numpy().swapaxes(0, along)])
        chi2 = ((counts - counts.sum(axis=1, keepdims=True) / 10) ** 2 / (counts.sum(axis=1, keepdims=True) / 10)).sum()
        assert 0.001 < scipy.stats.chi2.cdf(chi2, 9 * len(counts)) < 0.999
    for other in others:
        correlation = np.corrcoef(numbers.flatten(), other.flatten())[0, 1]
        assert abs(correlation) < 4 / math.sqrt(numbers.numel())
        pairs = np.histogram2d(numbers.flatten().numpy(), other.flatten().numpy(), bins=8, range=[[0, 1], [0, 1]])[0]
        assert scipy.stats.chisquare(pairs.ravel()).pvalue > 0.001
