"""Define the interface of interpreters: read heatmaps from a recorded forward pass."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.interpreters.tracing.recording import Recording, Walk, record
from advfool.interpreters.tracing.sites import IMAGES, Layout, Side, Site, as_maps
from advfool.utilities.checking import Checked, check_fields
from advfool.utilities.classes import Targets
from advfool.utilities.heatmaps import Normalise, normalise
from advfool.utilities.kinds import Share, Text


@dataclass(frozen=True, kw_only=True)
class Interpreter(Checked, ABC):
    """Explain the score of one class for each image by a heatmap (abstract).

    Calling `interp(model, images, targets)` runs the model once. `sites` and `walk` declare what that pass must
    record, and `read` computes the heatmaps from it, so that several interpreters can share one recording.
    Heatmaps carry gradients with respect to the model's parameters exactly when grad mode is on. The model is left
    unchanged.

    Args:
        name: the interpreter's name in tables and messages.
        normalise: how each heatmap is scaled, `max`, `minmax`, `sum` or `none`; None selects `default_normalise`. After
            construction the attribute holds the choice, never None.
    """

    name: str = ""
    normalise: Normalise | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "normalise", self.normalisation)

    @property
    def default_normalise(self) -> Normalise:
        """The normalisation that `normalise=None` selects."""
        return "max"

    @property
    def normalisation(self) -> Normalise:
        """The normalisation of the heatmaps: `max`, `minmax`, `sum` or `none`."""
        return self.default_normalise if self.normalise is None else self.normalise

    @property
    def sites(self) -> tuple[Site, ...]:
        """The activations that must be recorded for this interpreter."""
        return ()

    @property
    def walk(self) -> Walk | None:
        """The walk through the network's graph that this interpreter makes, or None."""
        return None

    @property
    def signed(self) -> bool:
        """Whether heatmaps have negative values: they range from -1 to 1 instead of from 0 to 1."""
        return False

    @abstractmethod
    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        """Compute the normalised heatmaps of the target classes from a recorded forward pass.

        Args:
            recording: a forward pass that was recorded for this interpreter.
            targets: the class to explain, one for each image or one for all.
        """

    def for_training(self) -> "Interpreter":
        """Return the interpreter to train with; measurements always use the true definition."""
        return self

    def unnormalised(self) -> "Interpreter":
        """Return the same interpreter without normalisation."""
        return replace(self, normalise="none")

    def scale(self, heatmaps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """Normalise heatmaps in this interpreter's way."""
        return normalise(heatmaps, self.normalisation)

    def __call__(
        self, model: nn.Module, images: Float[Tensor, "n channels H W"], targets: Targets
    ) -> Float[Tensor, "n h w"]:
        recording = record(model, images, [self])
        return self.read(recording, recording.classes(targets))


def read_maps(
    interpreter: Interpreter, recording: Recording, targets: Int[Tensor, "n *two"]
) -> Float[Tensor, "n *two h w"]:
    """Compute the heatmaps of one or several classes for each image, in float32 or a wider type.

    Args:
        interpreter: the interpreter that reads the recording.
        recording: a forward pass that was recorded for this interpreter.
        targets: the classes to explain; a second dimension holds several classes for each image.

    Returns:
        The heatmaps, with the dimensions of `targets` first.
    """
    columns = targets[:, None] if targets.dim() == 1 else targets
    maps = torch.stack([interpreter.read(recording, classes) for classes in columns.unbind(1)], dim=1)
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return maps[:, 0] if targets.dim() == 1 else maps


@dataclass(frozen=True)
class LayerInterpreter(Interpreter):
    """Explain by the images or by the activation of one layer (abstract).

    An activation that is a list of tensors (DenseNet) counts as their concatenation. Without a choice of
    `normalise`, heatmaps are scaled as in the paper: `max` at the images, `minmax` at a layer.

    Args:
        layer: the dotted name of the layer; None explains by the images.
        layer_side: which activation of the layer to take, its `input` or its `output`.
        layout: the order of the activation's dimensions, `nchw`, `nhwc` or `tokens`.
        training_leak: slope below zero of the leaky ReLU that replaces the heatmap's ReLU during training. Without
            it, a heatmap that is negative everywhere becomes zero and carries no gradient.
        leak: slope in use; `for_training` sets it.

    Source: Heo et al. 2019, Section 3.1; the input side is the choice of its authors' program.
    """

    layer: Text | None = None
    layer_side: Side = "input"
    layout: Layout = "nchw"
    training_leak: Share = 0.0
    leak: Share = 0.0

    layer_normalise: ClassVar[Normalise] = "minmax"

    @property
    def default_normalise(self) -> Normalise:
        return "max" if self.layer is None else self.layer_normalise

    @property
    def site(self) -> Site:
        """The activation that the interpreter explains by."""
        return IMAGES if self.layer is None else Site(self.layer, self.layer_side)

    def as_maps(self, tensors: list[Tensor]) -> Float[Tensor, "n c h w"]:
        """Convert the site's tensors to maps with channels first."""
        return as_maps(tensors, "nchw" if self.layer is None else self.layout)

    def rectify(self, heatmaps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """Apply a ReLU, which is leaky during training."""
        return F.leaky_relu(heatmaps, self.leak) if self.leak else heatmaps.relu()

    def for_training(self) -> Interpreter:
        return replace(self, leak=self.training_leak)
