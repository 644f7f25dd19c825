"""Class activation maps: the activation of a layer weighted by its gradient."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advfool.interpreters.base import LayerInterpreter
from advfool.interpreters.tracing.recording import Recording
from advfool.interpreters.tracing.sites import Site
from advfool.utilities.errors import AdvfoolError


@dataclass(frozen=True)
class CAM(LayerInterpreter):
    """Abstract: `relu` of what `combine` makes of activation A and gradient d score / d A, divided by its maximum.

    The gradient is over all paths from the layer to the score.
    """

    layer_normalise: ClassVar[str] = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer is None:
            raise AdvfoolError(f"{type(self).__name__} needs a layer, e.g. layer='layer4.2'.")

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        activation = self.as_maps(recording.at(self.site))
        gradient = self.as_maps(recording.gradients(targets, self.site))
        return self.scale(self.rectify(self.combine(activation, gradient)))

    @abstractmethod
    def combine(
        self, activation: Float[Tensor, "n c h w"], gradient: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n h w"]:
        """The map before its ReLU."""


@dataclass(frozen=True)
class GradCAM(CAM):
    """`relu(sum_k alpha_k A_k)`, `alpha_k` the spatial mean of d score / d A_k.

    Source: Selvaraju et al. 2017, eqs. 1 and 2; normalised as in Heo et al. 2019.
    """

    def combine(self, activation, gradient):
        return torch.einsum("nc,nchw->nhw", gradient.mean(dim=(2, 3)), activation)


@dataclass(frozen=True)
class GradCAMPlusPlus(CAM):
    """`relu(sum_k w_k A_k)`, `w_k = sum_ij a_kij relu(g_kij)`, `a = g^2 / (2 g^2 + sum(A_k) g^3)`, 0 where g is 0.

    g is the gradient of the score itself: Chattopadhay et al. explain exp(score), whose higher derivatives are
    powers of g, and whose factor exp(score) the normalisation removes.
    `stabiliser` is added to the denominator; 1e-6 is pytorch-grad-cam's.

    Source: Chattopadhay et al. 2018, eqs. 8 and 19.
    """

    stabiliser: float = 1e-6

    def combine(self, activation, gradient):
        total = activation.sum(dim=(2, 3), keepdim=True)
        shape = gradient.square() / (2 * gradient.square() + total * gradient**3 + self.stabiliser)
        return torch.einsum("nc,nchw->nhw", (shape * gradient.relu()).sum(dim=(2, 3)), activation)


@dataclass(frozen=True)
class LayerCAM(CAM):
    """`relu(sum_k relu(g_k) A_k)`. Source: Jiang et al. 2021, eqs. 4 to 6."""

    def combine(self, activation, gradient):
        return (gradient.relu() * activation).sum(dim=1)


@dataclass(frozen=True)
class HiResCAM(CAM):
    """`relu(sum_k g_k A_k)`. Source: Draelos, Carin 2020, eq. 6, with Grad-CAM's ReLU."""

    def combine(self, activation, gradient):
        return (gradient * activation).sum(dim=1)
