"""Heatmaps that stand in for manipulated ones: controls that say what a success rate would be without an attack."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from advfool.utilities.heatmaps import normalise
from advfool.utilities.random import seeded, uniform

# Maps that still tell what the original map told: their deceptive rate is to be near 0.
Negative = Literal["honest_finetune", "sharpened_4", "sharpened_16", "blurred"]
# Maps that tell nothing about the image or the network: they mislead.
Positive = Literal["noise", "another_image", "independent", "untrained"]
Control = Negative | Positive
NEGATIVE, POSITIVE = get_args(Negative), get_args(Positive)
# Those that need a network of their own, which is given: the rest is made of the original network.
OF_NETWORKS = ("honest_finetune", "independent")

_NOISE, _PARTNER = 100, 101  # streams of random numbers
_TRIES = 64  # draws of another image, until one is of another class
Transform = Callable[[Float[Tensor, "n h w"], Int[Tensor, "n"]], Float[Tensor, "n h w"]]


def sharpened(maps: Float[Tensor, "n h w"], power: int) -> Float[Tensor, "n h w"]:
    """Raise each map to a power, in float64; signs stay, and so do the order of the values and the maximum's place.

    Args:
        maps: the heatmaps.
        power: the exponent.

    >>> sharpened(torch.tensor([[[1.0, -0.5]]]), 2)
    tensor([[[ 1.0000, -0.2500]]], dtype=torch.float64)
    """
    scaled = normalise(maps.double())
    return scaled.sign() * scaled.abs() ** power


def blurred(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Blur each map by a Gaussian with a standard deviation of a 14th of its shorter side; its maximum becomes 1."""
    sigma = min(maps.shape[-2:]) / 14
    window = min(2 * round(2 * sigma) + 1, 2 * min(maps.shape[-2:]) - 1)
    return normalise(gaussian_blur(maps[:, None], [window, window], [sigma, sigma])[:, 0])


def noise(maps: Float[Tensor, "n h w"], index: Int[Tensor, "n"], seed: int) -> Float[Tensor, "n h w"]:
    """Draw a map of uniform noise for each image.

    Args:
        maps: heatmaps of the wanted shape.
        index: a whole number that identifies each image.
        seed: decides the noise together with the index.
    """
    places = torch.arange(maps[0].numel(), device=maps.device)[None] if len(maps) else torch.zeros(1, 0).long()
    return uniform(seed, index, places, stream=_NOISE).view_as(maps).to(maps.dtype)


def transforms(seed: int) -> dict[str, Transform]:
    """Return the controls that are made of the original heatmaps alone, by name."""
    return {
        "sharpened_4": lambda maps, index: sharpened(maps, 4),
        "sharpened_16": lambda maps, index: sharpened(maps, 16),
        "blurred": lambda maps, index: blurred(maps),
        "noise": partial(noise, seed=seed),
    }


def partners(labels: Int[Tensor, "total *two"], index: Int[Tensor, "n"], seed: int) -> list[int]:
    """Choose another image for each image: one of another class, where there is any.

    Args:
        labels: the labels of all images, or the two classes of each composite, which are all the same.
        index: positions of the images among them.
        seed: decides the choice together with the index.

    Returns:
        the positions of the other images; the image itself where it is the only one.
    """
    total = len(labels)
    drawn = (uniform(seed, index.cpu(), torch.arange(_TRIES)[None], stream=_PARTNER) * total).long()
    own = index.cpu()[:, None]
    other = labels[drawn] != labels[own] if labels.dim() == 1 else drawn != own
    first = other.int().argmax(dim=1)
    found = drawn.gather(1, first[:, None])[:, 0]
    return torch.where(other.any(dim=1), found, (index.cpu() + 1) % total).tolist()


def untrained(network: nn.Module, seed: int) -> nn.Module:
    """Copy a network with parameters as before any training.

    Modules that can start anew do so (`reset_parameters`); every other parameter has its values shuffled.

    Args:
        network: it is left as it is.
        seed: decides the new parameters.
    """
    fresh = copy.deepcopy(network)
    with seeded(seed, "untrained"), torch.no_grad():
        renewed: set[int] = set()
        for module in fresh.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                renewed |= {id(parameter) for parameter in module.parameters(recurse=False)}
        for parameter in fresh.parameters():
            if id(parameter) not in renewed:
                order = torch.randperm(parameter.numel()).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return fresh.eval()
