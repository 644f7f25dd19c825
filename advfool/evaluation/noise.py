"""Gaussian noise on the parameters, and what it leaves of two networks' accuracy and of the fooling."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from advfool.data.base import DataModule
from advfool.data.samples import Samples, some_of
from advfool.evaluation.comparison import NETWORKS
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics import functional as metrics
from advfool.utilities.errors import AdvfoolError


@contextmanager
def parameter_noise(network: nn.Module, level: float, seed: int, relative: bool = True) -> Iterator[nn.Module]:
    """A context in which every parameter of `network` has Gaussian noise; afterwards it is the same, bit for bit.

    level: the noise's standard deviation, as a multiple of each tensor's own (`relative`) or in the parameters' units.
    A tensor's own is that of its values as a population: 0 for a single value or for equal ones (a fresh bias), which
    relative noise therefore leaves alone. Buffers (batch norm's statistics) have no noise. A parameter that several
    modules share is disturbed once.

    The unit noise depends on the seed and on the parameters' order and shapes: it is the same for every level and on
    every device, so the points of a curve over levels lie on one ray.

    Raises:
        AdvfoolError: the level is negative or not finite.
    """
    if not 0 <= level < math.inf:
        raise AdvfoolError(f"The level of parameter noise is a standard deviation, from 0 up, got {level}.")
    parameters = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        if level:
            _disturb(parameters, kept, level, seed, relative)
        yield network
    finally:
        with torch.no_grad():
            for parameter, values in zip(parameters, kept, strict=True):
                parameter.copy_(values)


@torch.no_grad()
def _disturb(parameters: list[Tensor], values: list[Tensor], level: float, seed: int, relative: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter, value in zip(parameters, values, strict=True):
        value = value.to(torch.promote_types(value.dtype, torch.float32))
        unit = torch.randn(value.shape, generator=generator).to(value)  # drawn on the CPU, in float32
        scale = level * value.std(correction=0) if relative else level
        parameter.copy_(value + scale * unit)


class NoiseCurve(NamedTuple):
    """Top-1 accuracy and FSR of a network, as fractions: a row for each level, a column for each draw."""

    accuracy: Float[Tensor, "levels draws"]
    fsr: Float[Tensor, "levels draws"]


@torch.no_grad()
def noise_curve(
    original: nn.Module,
    manipulated: nn.Module,
    data: DataModule,
    interpreter: Interpreter,
    fooling: Fooling,
    levels: Sequence[float],
    draws: int = 1,
    seed: int = 0,
    images: int | None = None,
    target: str = "label",
    composites: Samples | None = None,
    relative: bool = True,
) -> dict[str, NoiseCurve]:
    """Accuracy and FSR of the `original` and the `manipulated` network under parameter noise of these levels.

    Measured on `images` random test images (None: all); active fooling's FSR on all `composites`, both classes
    together. The class explained where `target` is `predicted`, and the maps that a fooling compares with, are those of
    the original network without noise. A draw is the same unit noise at all levels and, where the parameters have the
    same shapes, for both networks. Runs where the networks' parameters lie.

    Raises:
        AdvfoolError: there is nothing to measure, or it does not fit the fooling.
    Source: Heo et al. 2019, Figure 4(b).
    """
    for name, count in (("level", len(levels)), ("draw", draws), ("image", 1 if images is None else images)):
        if count < 1:
            raise AdvfoolError(f"Parameter noise is measured with at least one {name}, got {count}.")
    if fooling.needs_composites != (composites is not None):
        raise AdvfoolError(
            f"composites must be {'given' if fooling.needs_composites else 'None'} for {type(fooling).__name__}, got "
            f"{'None' if composites is None else 'some'}: active fooling, and it alone, is measured on them."
        )
    networks = dict(zip(NETWORKS, (original.eval(), manipulated.eval()), strict=True))
    test = data.test()
    parts = [part for part in (composites, Subset(test, some_of(len(test), images, seed))) if part is not None]
    loaders = [data.in_order(part) for part in parts]
    truth = list(_truth(original, loaders[0], interpreter, fooling, target))
    found = {name: torch.zeros(2, len(levels), draws) for name in NETWORKS}
    runs = [(row, draw) for row, level in enumerate(levels) for draw in range(draws if level else 1)]
    for row, draw in track(runs, "Parameter noise"):
        columns = slice(draw, draw + 1) if levels[row] else slice(None)  # without noise all draws are the same
        for name, network in networks.items():
            with parameter_noise(network, levels[row], seed * draws + draw, relative):
                found[name][:, row, columns] = _rates(network, loaders, interpreter, fooling, truth)[:, None]
    return {name: NoiseCurve(*rates) for name, rates in found.items()}


def _truth(
    original: nn.Module, loader: DataLoader, interpreter: Interpreter, fooling: Fooling, target: str
) -> Iterator[tuple[Int[Tensor, "n *two"], Float[Tensor, "n *two h w"] | None]]:
    """For each batch the classes explained, and the original's maps where the fooling compares with them."""
    predicted = target == "predicted" and not fooling.needs_composites
    for batch in loader:
        targets, maps = batch.label, None
        if predicted or fooling.needs_original:
            recording = record(original, _beside(original, batch.image), [interpreter])
            targets = recording.logits.argmax(dim=1).cpu() if predicted else targets
            maps = read_maps(interpreter, recording, targets).cpu() if fooling.needs_original else None
        yield targets, maps


def _rates(
    network: nn.Module, loaders: Sequence[DataLoader], interpreter: Interpreter, fooling: Fooling, truth: Sequence
) -> Float[Tensor, "2"]:
    """Accuracy and FSR; the images of the first loader are explained, those with one class are classified."""
    correct, test_loss = [], []
    for loader, known in zip(loaders, (truth, repeat(None)), strict=False):
        for batch, explained in zip(loader, known, strict=False):
            recording = record(network, _beside(network, batch.image), [interpreter] if explained else [])
            if explained:
                targets, maps = explained
                original = None if maps is None else _beside(network, maps)
                test_loss.append(fooling.test_loss(read_maps(interpreter, recording, targets), original))
            if batch.label.dim() == 1:
                usable = recording.logits.isfinite().all(dim=1)  # NaN would count as the largest logit
                labels = _beside(network, batch.label)
                correct.append(usable & metrics.top_k_correct(recording.logits, labels, 1))
    fsr = metrics.fooling_success_rate(torch.cat(test_loss), fooling.interval)
    return torch.stack([torch.cat(correct).float().mean(), fsr]).cpu()


def _beside(network: nn.Module, values: Tensor) -> Tensor:
    """The values on the network's device."""
    return values.to(next(network.parameters()).device)
