"""What keeps the classifier a classifier while its heatmaps are fooled."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Preserve(ABC):
    """Abstract: a loss of the manipulated network's logits, mean over the images.

    `needs_labels` and `needs_original` say what it compares them with. `name` is what tables call it.
    """

    name: str = ""
    needs_labels: ClassVar[bool] = False
    needs_original: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"], original: Float[Tensor, "n c"] | None
    ) -> Float[Tensor, ""]: ...


@dataclass(frozen=True)
class CrossEntropy(Preserve):
    """The classification loss. Source: Heo et al. 2019, eq. 2."""

    needs_labels: ClassVar[bool] = True

    def __call__(self, logits, labels, original=None):
        return F.cross_entropy(logits, labels)


@dataclass(frozen=True)
class Distillation(Preserve):
    """KL divergence from the original network's softmax to the manipulated one's, in nats.

    Needs no labels, and keeps all classes even where few are among the fine-tuning images. With a temperature T
    both logits are divided by T and the loss multiplied by T^2; for large T it becomes half the mean squared
    difference of the centred logits, which also keeps what the network says about improbable classes.

    Source: Hinton, Vinyals, Dean 2015, Sections 2 and 2.1.
    """

    temperature: float = 1.0
    needs_original: ClassVar[bool] = True

    def __call__(self, logits, labels, original):
        ours, theirs = ((x.float() / self.temperature).log_softmax(dim=1) for x in (logits, original))
        return self.temperature**2 * F.kl_div(ours, theirs, log_target=True, reduction="batchmean")
