"""What an interpreter is: something that reads heatmaps from a recorded forward pass."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.recording import Recording, Site, record


@dataclass(frozen=True, kw_only=True)
class Interpreter(ABC):
    """Abstract: explains the score of one class for each image by a heatmap.

    Called as `interp(model, images, targets)`, it runs the model once. `sites` and `read` are its two halves,
    so that several interpreters can share a recording. Heatmaps carry gradients with respect to the model's
    parameters exactly when grad mode is on; the model is left as it was. `name` is what tables call it.
    """

    name: str = ""

    @property
    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """The activations that must be recorded for this interpreter."""

    @abstractmethod
    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        """The heatmaps of the target classes, normalised."""

    def for_training(self) -> "Interpreter":
        """The interpreter to train with; measuring always uses the true definition."""
        return self

    def __call__(
        self, model: nn.Module, images: Float[Tensor, "n 3 H W"], targets: Int[Tensor, "n"] | int
    ) -> Float[Tensor, "n h w"]:
        return self.read(record(model, images, self.sites), targets)
