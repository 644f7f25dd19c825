"""Gaussian noise on the parameters, and what it leaves of two networks' accuracy and of the fooling."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from advfool.data.samples import some_of
from advfool.evaluation.paired import NETWORKS, explained_classes
from advfool.evaluation.setup import Setup
from advfool.foolings.base import CompositeFooling
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics import functional as metrics
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import NonNegative, Size


@checked
@contextmanager
def parameter_noise(
    network: nn.Module, level: NonNegative, seed: Annotated[int, Ge(0)], relative: bool = True
) -> Iterator[nn.Module]:
    """Add Gaussian noise to every parameter within a context; afterwards the network is the same, bit for bit.

    Buffers (batch norm's statistics) get no noise. A parameter that several modules share is disturbed once. The unit
    noise depends on the seed and on the parameters' order and shapes: it is the same for every level and device, so
    the points of a curve over levels lie on one ray.

    Args:
        network: what is disturbed.
        level: standard deviation of the noise, as a multiple of each tensor's own (`relative`) or in the parameters'
            units. A tensor of one value or of equal values has none of its own, so relative noise leaves it alone.
        seed: of the noise.
        relative: what `level` is a multiple of.

    Raises:
        AdvfoolError: the level is negative or not finite.
    """
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
def _disturb(parameters: Sequence[Tensor], values: Sequence[Tensor], level: float, seed: int, relative: bool) -> None:
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


@checked
@torch.no_grad()
def noise_curve(
    setup: Setup,
    manipulated: nn.Module,
    levels: Sequence[NonNegative],
    draws: Size = 1,
    images: Size | None = None,
    relative: bool = True,
) -> dict[str, NoiseCurve]:
    """Measure accuracy and FSR of both networks under noise on their parameters.

    The FSR is that of the interpreter trained with; of active fooling that of all composites, both classes together.
    The class that is explained where the target is `predicted`, and the heatmaps that a fooling compares with, are
    those of the original network without noise. A draw is the same unit noise at all levels and, where the parameters
    have the same shapes, for both networks. Runs where the networks' parameters lie.

    Args:
        setup: the original network, data, interpreters and fooling.
        manipulated: the manipulated network.
        levels: standard deviations of the noise.
        draws: of the noise, for each level.
        images: random test images that are measured; None: all.
        relative: whether levels are multiples of each tensor's own standard deviation.

    Returns:
        a curve for each network, by its name.

    Raises:
        AdvfoolError: there is nothing to measure, or it does not fit the fooling.
    Source: Heo et al. 2019, Figure 4(b).
    """
    for name, count in (("level", len(levels)), ("draw", draws), ("image", 1 if images is None else images)):
        if count < 1:
            raise AdvfoolError(f"Parameter noise is measured with at least one {name}, got {count}.")
    active, given = isinstance(setup.fooling, CompositeFooling), setup.composites is not None
    if active != given:
        raise AdvfoolError(
            f"composites must be {'given' if active else 'None'} for {type(setup.fooling).__name__}, got "
            f"{'some' if given else 'None'}: active fooling, and it alone, is measured on them."
        )
    seed, test = setup.settings.seed, setup.data.test()
    networks = dict(zip(NETWORKS, (setup.original.eval(), manipulated.eval()), strict=True))
    ordinary = Subset(test, some_of(len(test), images, seed))
    parts = [ordinary] if setup.composites is None else [setup.composites.test, ordinary]
    loaders = [setup.data.in_order(part) for part in parts]
    truth = list(_truth(setup, loaders[0]))
    found = {name: torch.zeros(2, len(levels), draws) for name in NETWORKS}
    runs = [(row, draw) for row, level in enumerate(levels) for draw in range(draws if level else 1)]
    for row, draw in track(runs, "Parameter noise"):
        columns = slice(draw, draw + 1) if levels[row] else slice(None)  # without noise all draws are the same
        for name, network in networks.items():
            with parameter_noise(network, levels[row], seed * draws + draw, relative):
                found[name][:, row, columns] = _rates(network, loaders, setup, truth)[:, None]
    return {name: NoiseCurve(*rates) for name, rates in found.items()}


Truth = tuple[Int[Tensor, "_ *two"], Float[Tensor, "_ *_two h w"] | None]  # of one batch; batches differ in size


def _truth(setup: Setup, loader: DataLoader) -> Iterator[Truth]:
    """Yield for each batch the explained classes, and the original's heatmaps that the fooling compares with."""
    predicted = setup.settings.target == "predicted" and setup.composites is None
    for batch in loader:
        targets, maps = batch.label, None
        if predicted or setup.fooling.needs_original:
            recording = record(setup.original, _on_device_of(setup.original, batch.image), [setup.trained])
            targets = explained_classes(targets, setup.settings.target, recording.logits.cpu())
            if setup.fooling.needs_original:
                classes = setup.fooling.compared_classes(targets, recording.logits.cpu())
                maps = read_maps(setup.trained, recording, classes).cpu()
        yield targets, maps


def _rates(
    network: nn.Module, loaders: Sequence[DataLoader], setup: Setup, truth: Sequence[Truth]
) -> Float[Tensor, "2"]:
    """Measure accuracy and FSR; the images of the first loader are explained, those with one label are classified."""
    correct, test_loss = [], []
    for loader, known in zip(loaders, (truth, repeat(None)), strict=False):
        for batch, explained in zip(loader, known, strict=False):
            images = _on_device_of(network, batch.image)
            recording = record(network, images, [setup.trained] if explained else [])
            if explained:
                targets, maps = explained
                original = None if maps is None else _on_device_of(network, maps)
                test_loss.append(setup.fooling.test_loss(read_maps(setup.trained, recording, targets), original))
            if batch.label.dim() == 1:
                usable = recording.logits.isfinite().all(dim=1)  # NaN would count as the largest logit
                labels = _on_device_of(network, batch.label)
                correct.append(usable & metrics.top_k_correct(recording.logits, labels, 1))
    fsr = metrics.fooling_success_rate(torch.cat(test_loss), setup.fooling.interval)
    return torch.stack([torch.cat(correct).float().mean(), fsr]).cpu()


def _on_device_of(network: nn.Module, values: Tensor) -> Tensor:
    return values.to(next(network.parameters()).device)
