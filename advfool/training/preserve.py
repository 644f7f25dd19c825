"""The losses that keep the classifier's predictions while its heatmaps are fooled."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from advfool.utilities.checking import check_fields
from advfool.utilities.kinds import NonNegative, Positive


@dataclass(frozen=True, kw_only=True)
class Preserve(ABC):
    """Abstract: a loss of the manipulated network's logits, the mean over the images.

    Args:
        name: what tables call it.

    Attributes:
        needs_labels: whether it compares the logits with the labels.
        needs_original: whether it compares them with the original network's logits.
    """

    name: str = ""
    needs_labels: ClassVar[bool] = False
    needs_original: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def __call__(
        self,
        logits: Float[Tensor, "n c"],
        labels: Int[Tensor, "n"],
        original: Float[Tensor, "n c"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the loss; `original` are the original network's logits."""


@dataclass(frozen=True)
class CrossEntropy(Preserve):
    """The classification loss.

    Source: Heo et al. 2019, eq. 2.
    """

    needs_labels: ClassVar[bool] = True

    def __call__(
        self,
        logits: Float[Tensor, "n c"],
        labels: Int[Tensor, "n"],
        original: Float[Tensor, "n c"] | None = None,
    ) -> Float[Tensor, ""]:
        return F.cross_entropy(logits, labels)


@dataclass(frozen=True)
class Distillation(Preserve):
    """KL divergence from the original network's softmax to the manipulated one's, in nats.

    It needs no labels, and keeps all classes even where few are among the training images. With a temperature T both
    logits are divided by T and the loss multiplied by T^2; for large T it becomes half the mean squared difference of
    the centred logits, which also keeps what the network says about improbable classes.

    Args:
        temperature: T, above 0.
        offset: weight of half the squared change of an image's mean logit. The softmax does not see it, but maps that
            start from the logit of a class change their sign with it.

    Source: Hinton, Vinyals, Dean 2015, Sections 2 and 2.1.
    """

    temperature: Positive = 1.0
    offset: NonNegative = 0.0
    needs_original: ClassVar[bool] = True

    def __call__(
        self,
        logits: Float[Tensor, "n c"],
        labels: Int[Tensor, "n"] | None,
        original: Float[Tensor, "n c"] | None = None,
    ) -> Float[Tensor, ""]:
        assert original is not None
        ours, theirs = ((x.float() / self.temperature).log_softmax(dim=1) for x in (logits, original))
        loss = self.temperature**2 * F.kl_div(ours, theirs, log_target=True, reduction="batchmean")
        if self.offset:
            shift = logits.float().mean(dim=1) - original.float().mean(dim=1)
            loss = loss + self.offset / 2 * shift.square().mean()
        return loss
