"""What an interpreter is: something that reads heatmaps from a recorded forward pass."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.interpreters.tracing.recording import Recording, Walk, record
from advfool.interpreters.tracing.sites import IMAGES, Layout, Side, Site, as_maps
from advfool.utilities.errors import check_choice
from advfool.utilities.heatmaps import Normalise, normalise


@dataclass(frozen=True, kw_only=True)
class Interpreter(ABC):
    """Abstract: explains the score of one class for each image by a heatmap.

    Called as `interp(model, images, targets)`, it runs the model once. `sites` (activations with their gradients)
    and `walk` (the network's graph) say what it needs recorded and `read` makes the heatmaps of it, so that several
    interpreters can share a recording. Heatmaps carry gradients with respect to the model's parameters exactly
    when grad mode is on; the model is left as it was. `name` is what tables call it.
    """

    name: str = ""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The activations that must be recorded for this interpreter."""
        return ()

    @property
    def walk(self) -> Walk | None:
        """The walk through the network's graph that this interpreter makes, if any."""
        return None

    @property
    def signed(self) -> bool:
        """Whether its heatmaps run from -1 to 1 (and not from 0 to 1)."""
        return False

    @abstractmethod
    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        """The heatmaps of the target classes, normalised."""

    def for_training(self) -> "Interpreter":
        """The interpreter to train with; measuring always uses the true definition."""
        return self

    def unnormalised(self) -> "Interpreter":
        """The same with `normalise="none"`."""
        return replace(self, normalise="none")

    def scale(self, heatmaps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """Normalised as this interpreter's heatmaps are."""
        return normalise(heatmaps, self.normalise)

    def __call__(
        self, model: nn.Module, images: Float[Tensor, "n 3 H W"], targets: Int[Tensor, "n"] | int
    ) -> Float[Tensor, "n h w"]:
        return self.read(record(model, images, [self]), targets)


def read_maps(
    interpreter: Interpreter, recording: Recording, targets: Int[Tensor, "n *two"]
) -> Float[Tensor, "n *two h w"]:
    """The heatmaps of one class for each image, or of several in the second dimension; in float32 at least."""
    columns = targets[:, None] if targets.dim() == 1 else targets
    maps = torch.stack([interpreter.read(recording, classes) for classes in columns.unbind(1)], dim=1)
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return maps[:, 0] if targets.dim() == 1 else maps


@dataclass(frozen=True)
class LayerInterpreter(Interpreter):
    """Abstract: looks at one place, the input of `layer` (`layer_side="output"`: its output) or the images (None).

    A list of tensors (DenseNet) counts as their concatenation. `layout` says how the layer's activation is a map.
    `normalise=None` is the paper's choice: `max` at the images, `minmax` at a layer.
    `training_leak` is the slope below zero of a leaky ReLU that replaces the map's ReLU while training, where it has
    one: a map that is negative everywhere would otherwise be zero and carry no gradient.

    Source: Heo et al. 2019, Section 3.1; the input side is the choice of its authors' program.
    """

    layer: str | None = None
    layer_side: str = "input"
    layout: str = "nchw"
    normalise: str | None = None
    training_leak: float = 0.0
    leak: float = 0.0

    layer_normalise: ClassVar[str] = "minmax"

    def __post_init__(self) -> None:
        check_choice("layer_side", self.layer_side, Side)
        check_choice("layout", self.layout, Layout)
        if self.normalise is None:
            object.__setattr__(self, "normalise", "max" if self.layer is None else self.layer_normalise)
        check_choice("normalise", self.normalise, Normalise)

    @property
    def site(self) -> Site:
        """Where it looks."""
        return IMAGES if self.layer is None else Site(self.layer, self.layer_side)

    def as_maps(self, tensors: list[Tensor]) -> Float[Tensor, "n c h w"]:
        """The site's tensors as maps."""
        return as_maps(tensors, "nchw" if self.layer is None else self.layout)

    def rectify(self, heatmaps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """ReLU, leaky while training."""
        return F.leaky_relu(heatmaps, self.leak) if self.leak else heatmaps.relu()

    def for_training(self) -> "Interpreter":
        return replace(self, leak=self.training_leak)
