"""Compute class activation maps: the activation of a layer weighted by its gradient."""

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
from advfool.utilities.heatmaps import Normalise
from advfool.utilities.kinds import Positive


@dataclass(frozen=True)
class CAM(LayerInterpreter):
    """Combine a layer's activation A and its gradient g = d score / d A into a rectified heatmap (abstract).

    The gradient covers all paths from the layer to the score. By default each heatmap is divided by its maximum.

    Raises:
        AdvfoolError: no layer is given.
    """

    layer_normalise: ClassVar[Normalise] = "max"

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
        """Combine activation and gradient into the map to which the ReLU is applied."""


@dataclass(frozen=True)
class GradCAM(CAM):
    """Compute Grad-CAM: `relu(sum_k alpha_k A_k)`, where `alpha_k` is the spatial mean of d score / d A_k.

    Source: Selvaraju et al. 2017, eqs. 1 and 2; normalised as in Heo et al. 2019.
    """

    def combine(
        self, activation: Float[Tensor, "n c h w"], gradient: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n h w"]:
        return torch.einsum("nc,nchw->nhw", gradient.mean(dim=(2, 3)), activation)


@dataclass(frozen=True)
class GradCAMPlusPlus(CAM):
    """Compute Grad-CAM++: `relu(sum_k w_k A_k)` with `w_k = sum_ij a_kij relu(g_kij)`.

    The weights are `a = g^2 / (2 g^2 + sum(A_k) g^3)`, and 0 where g is 0. g is the gradient of the score itself:
    Chattopadhay et al. explain exp(score), whose higher derivatives are powers of g times exp(score), and
    normalisation removes that factor.

    Args:
        stabiliser: is added to the denominator; the default is that of pytorch-grad-cam.

    Source: Chattopadhay et al. 2018, eqs. 8 and 19.
    """

    stabiliser: Positive = 1e-6

    def combine(
        self, activation: Float[Tensor, "n c h w"], gradient: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n h w"]:
        total = activation.sum(dim=(2, 3), keepdim=True)
        shape = gradient.square() / (2 * gradient.square() + total * gradient**3 + self.stabiliser)
        return torch.einsum("nc,nchw->nhw", (shape * gradient.relu()).sum(dim=(2, 3)), activation)


@dataclass(frozen=True)
class LayerCAM(CAM):
    """Compute LayerCAM: `relu(sum_k relu(g_k) A_k)`.

    Source: Jiang et al. 2021, eqs. 4 to 6.
    """

    def combine(
        self, activation: Float[Tensor, "n c h w"], gradient: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n h w"]:
        return (gradient.relu() * activation).sum(dim=1)


@dataclass(frozen=True)
class HiResCAM(CAM):
    """Compute HiResCAM: `relu(sum_k g_k A_k)`.

    Source: Draelos and Carin 2020, eq. 6, with the ReLU of Grad-CAM.
    """

    def combine(
        self, activation: Float[Tensor, "n c h w"], gradient: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n h w"]:
        return (gradient * activation).sum(dim=1)
