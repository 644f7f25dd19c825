"""Detectors: one number for each network that somebody hands over, the higher, the more it looks manipulated."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from advfool.data.samples import Sample, in_batches, some_of
from advfool.evaluation.faithfulness import RandomOrders
from advfool.evaluation.noise import parameter_noise
from advfool.evaluation.paired import explained_classes
from advfool.evaluation.setup import Setup
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics.functional import kl_divergence, spearman, top_k_correct
from advfool.models.batch_norm import batch_norms, re_estimated
from advfool.training.free_direction import find_free_layer, rows_of
from advfool.utilities.heatmaps import is_finite
from advfool.utilities.kinds import Count
from advfool.utilities.modules import module_at

AT_A_TIME = 64  # images
NOISE = (0.05, 0.1, 0.2)  # standard deviations, as multiples of each parameter tensor's own


@dataclass(frozen=True)
class Auditor:
    """What somebody has who looks at a network: images, interpreters and, for some detectors, the original network.

    Args:
        setup: data, interpreters, original network and how faithfulness is measured.
        images: number of selection images that detectors look at.
    """

    setup: Setup
    images: Count
    batches: list[Sample] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        data = self.setup.data.selection()
        chosen = some_of(len(data), self.images, self.setup.settings.seed)
        object.__setattr__(self, "batches", list(in_batches(data, chosen, AT_A_TIME)))

    def batches_for(self, network: nn.Module) -> list[Sample]:
        """Return the images in batches, on the device of a network."""
        device = next(network.parameters(), torch.zeros(0)).device
        return [Sample(*(values.to(device) for values in batch)) for batch in self.batches]

    @torch.no_grad()
    def maps(self, network: nn.Module, batch: Sample) -> tuple[Int[Tensor, "n"], Mapping[str, Tensor]]:
        """Read the explained classes (the labels, or what the network itself predicts) and all heatmaps."""
        interpreters = self.setup.interpreters
        recording = record(network, batch.image, list(interpreters.values()))
        classes = explained_classes(batch.label, self.setup.settings.target, recording.logits)
        return classes, {name: read_maps(each, recording, classes).float() for name, each in interpreters.items()}


@dataclass(frozen=True)
class Detector(ABC):
    """Scores a network by how manipulated it looks (abstract).

    Attributes:
        name: of the detector.
        knows: what the auditor needs beside the network that is handed over.
        looks_at: what the score is, in a few words.
    """

    name: ClassVar[str]
    knows: ClassVar[str]
    looks_at: ClassVar[str]

    @abstractmethod
    def score(self, network: nn.Module, auditor: Auditor) -> float:
        """Compute the score, higher for a more suspicious network; NaN where the detector does not apply."""


@dataclass(frozen=True)
class MapFaithfulness(Detector):
    """The mean AOPC of the heatmaps of all interpreters less that of random orders, with a minus.

    Source: Samek et al. 2017; `advfool.metrics.functional.faithfulness`.
    """

    name = "map_faithfulness"
    knows = "network and data"
    looks_at = "maps that do not beat random orders"

    @torch.no_grad()
    def score(self, network: nn.Module, auditor: Auditor) -> float:
        settings, input = auditor.setup.settings.faithfulness, auditor.setup.data.input
        values = []
        for batch in auditor.batches_for(network):
            classes, maps = auditor.maps(network, batch)
            found = RandomOrders(network, batch.image, batch.index, classes, settings, input).judge(maps)
            values += [each.value for each in found.values()]
        return -torch.cat(values).double().nanmean().item()


@dataclass(frozen=True)
class MapDisagreement(Detector):
    """The mean Spearman correlation of the heatmaps of each two interpreters, with a minus.

    Heatmaps are averaged to the grid of the coarsest one. One interpreter alone cannot disagree: NaN.
    """

    name = "map_disagreement"
    knows = "network and data"
    looks_at = "interpreters that contradict each other"

    def score(self, network: nn.Module, auditor: Auditor) -> float:
        if len(auditor.setup.interpreters) < 2:
            return torch.nan
        values = []
        for batch in auditor.batches_for(network):
            maps = list(auditor.maps(network, batch)[1].values())
            size = (min(each.shape[-2] for each in maps), min(each.shape[-1] for each in maps))
            maps = [F.adaptive_avg_pool2d(each[:, None], size)[:, 0] for each in maps]
            for one, other in combinations(maps, 2):
                usable = is_finite(one) & is_finite(other)
                values.append(spearman(one[usable], other[usable]))
        return -torch.cat(values).nanmean().item()


@dataclass(frozen=True)
class NoiseSensitivity(Detector):
    """The top-1 accuracy that noise on the parameters costs, as a mean over levels and draws.

    Without labels it is the share of predictions that noise changes.

    Args:
        levels: standard deviations of the noise, as multiples of each tensor's own.
        draws: of the noise, at each level.

    Source: Heo et al. 2019, Figure 4(b).
    """

    levels: tuple[float, ...] = NOISE
    draws: Count = 4

    name = "parameter_noise"
    knows = "network and data"
    looks_at = "accuracy lost under noise on the parameters"

    def score(self, network: nn.Module, auditor: Auditor) -> float:
        batches, seed, noisy = auditor.batches_for(network), auditor.setup.settings.seed, []
        if not auditor.setup.data.has_labels:
            batches = [batch._replace(label=_logits(network, batch.image).argmax(dim=1)) for batch in batches]
        for level in self.levels:
            for draw in range(self.draws):
                with parameter_noise(network, level, seed * self.draws + draw):
                    noisy.append(accuracy(network, batches))
        return accuracy(network, batches) - sum(noisy) / len(noisy)


@dataclass(frozen=True)
class BatchNormShift(Detector):
    """The distance of batch norm's running statistics to those of the auditor's images, in running standard deviations.

    It is the root mean square, over all channels, of how far the mean and the standard deviation move. NaN without
    batch norm.
    """

    name = "batch_norm_shift"
    knows = "network and data"
    looks_at = "batch norm statistics that do not fit clean images"

    def score(self, network: nn.Module, auditor: Auditor) -> float:
        held = dict(batch_norms(network))
        if not held:
            return torch.nan
        fresh = dict(batch_norms(re_estimated(network, [batch.image for batch in auditor.batches_for(network)])))
        squares = []
        for name, module in held.items():
            (mean, std), (other_mean, other_std) = _statistics(module), _statistics(fresh[name])
            squares.append(((other_mean - mean) / std).square() + ((other_std - std) / std).square())
        return torch.cat(squares).mean().sqrt().item()


@dataclass(frozen=True)
class WeightDistance(Detector):
    """The distance of the parameters to the original network's, relative to their norm; NaN for other parameters."""

    name = "weight_distance"
    knows = "network and original"
    looks_at = "parameters far from the original ones"

    def score(self, network: nn.Module, auditor: Auditor) -> float:
        own, original = (
            {name: value.detach().double().cpu() for name, value in each.named_parameters()}
            for each in (network, auditor.setup.original)
        )
        if {name: value.shape for name, value in own.items()} != {n: value.shape for n, value in original.items()}:
            return torch.nan
        moved = sum(float((value - original[name]).square().sum()) for name, value in own.items())
        norm = sum(float(value.square().sum()) for value in original.values())
        return (moved / norm) ** 0.5 if norm else torch.nan


@dataclass(frozen=True)
class LogitDistance(Detector):
    """The mean KL divergence of the network's predictions from the original network's, in nats."""

    name = "logit_distance"
    knows = "network, data and original"
    looks_at = "predictions that differ from the original ones"

    @torch.no_grad()
    def score(self, network: nn.Module, auditor: Auditor) -> float:
        original = auditor.setup.original
        ours, theirs = (
            torch.cat([_logits(each, batch.image).cpu() for batch in auditor.batches_for(each)])
            for each in (network, original)
        )
        return kl_divergence(theirs, ours).mean().item()


@dataclass(frozen=True)
class CommonDirection(Detector):
    """The part of the last layer's rows that is common to all of them, relative to the size of a row.

    The softmax does not see it, but the maps do. NaN for networks without a layer that can move in this direction.
    """

    name = "common_direction"
    knows = "network alone"
    looks_at = "a last layer whose rows have much in common"

    @torch.no_grad()
    def score(self, network: nn.Module, auditor: Auditor) -> float:
        size = auditor.batches_for(network)[0].image[:2]
        noise = torch.randn(size.shape, generator=torch.Generator().manual_seed(0)).to(size)
        layer = find_free_layer(network, noise)
        weight = None if layer is None else rows_of(module_at(network, layer))
        if weight is None:
            return torch.nan
        rows = weight.double().flatten(1)
        return (rows.mean(dim=0).norm() / rows.norm(dim=1).square().mean().sqrt()).item()


DETECTORS: tuple[Detector, ...] = (
    *(MapFaithfulness(), MapDisagreement(), NoiseSensitivity(), BatchNormShift(), CommonDirection()),
    *(WeightDistance(), LogitDistance()),
)


def _statistics(module: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the running mean and standard deviation of each channel."""
    assert module.running_mean is not None
    assert module.running_var is not None
    return module.running_mean.double(), (module.running_var.double() + module.eps).sqrt()


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    return record(network, images, []).logits.detach()


@torch.no_grad()
def accuracy(network: nn.Module, batches: list[Sample]) -> float:
    """Measure top-1 accuracy as a fraction; an image with a logit that is not finite counts as wrong."""
    correct = []
    for batch in batches:
        logits = _logits(network, batch.image)
        correct.append(top_k_correct(logits.nan_to_num(), batch.label, 1) & logits.isfinite().all(dim=1))
    return torch.cat(correct).float().mean().item()
