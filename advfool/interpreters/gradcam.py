"""Grad-CAM."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from advfool.errors import check_choice
from advfool.heatmaps import Normalise, normalise
from advfool.interpreters.base import Interpreter
from advfool.recording import Layout, Recording, Side, Site, as_maps


@dataclass(frozen=True)
class GradCAM(Interpreter):
    """`relu(sum_k alpha_k A_k)`, `alpha_k` the spatial mean of d score / d A_k, divided by its maximum.

    A is the activation at the input of `layer` (`layer_side="output"`: at its output), with the gradient over all
    paths from it to the score. A list of tensors (DenseNet) counts as their concatenation.
    `training_leak` is the slope of a leaky ReLU that replaces the ReLU while training: a map that is negative
    everywhere would otherwise be zero and carry no gradient.

    Source: Selvaraju et al. 2017, eqs. 1 and 2; normalised as in Heo et al. 2019. The input side is the choice of
    Heo et al.'s program: at the output of ResNet50's last block Grad-CAM and LRP are the same map.
    """

    layer: str
    layer_side: str = "input"
    layout: str = "nchw"
    normalise: str = "max"
    training_leak: float = 0.0
    leak: float = 0.0

    def __post_init__(self) -> None:
        check_choice("layer_side", self.layer_side, Side)
        check_choice("layout", self.layout, Layout)
        check_choice("normalise", self.normalise, Normalise)

    @property
    def sites(self) -> tuple[Site, ...]:
        return (Site(self.layer, self.layer_side),)

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        tensors = recording.at(self.sites[0])
        activation = as_maps(tensors, self.layout)
        gradient = as_maps(list(recording.gradients(targets, tensors)), self.layout)
        weights = gradient.mean(dim=(2, 3))
        weighted = torch.einsum("nc,nchw->nhw", weights, activation)
        return normalise(F.leaky_relu(weighted, self.leak) if self.leak else weighted.relu(), self.normalise)

    def for_training(self) -> "GradCAM":
        return replace(self, leak=self.training_leak)
