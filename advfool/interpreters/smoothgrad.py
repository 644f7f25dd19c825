"""SmoothGrad: the mean of an interpreter's maps over noisy copies of the image."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advfool.interpreters.base import Interpreter
from advfool.interpreters.chunks import bounded_sum, check_count
from advfool.interpreters.gradient import SimpleGrad
from advfool.interpreters.tracing.recording import Recording
from advfool.utilities.errors import AdvfoolError, check_choice
from advfool.utilities.heatmaps import Normalise


@dataclass(frozen=True)
class SmoothGrad(Interpreter):
    """The mean of an interpreter's maps over `samples` noisy copies of the image, then normalised as they are.

    std: of the Gaussian noise, in the network's normalised input; with `relative`, a share of each image's range.
    Measuring takes the same draws from `seed` for every image and network, training fresh ones. `chunk`: noisy
    copies of the batch in memory at a time.

    Source: Smilkov et al. 2017, with the noise of Heo et al. 2019; Smilkov et al. have `relative`.
    """

    interpreter: Interpreter = SimpleGrad()
    samples: int = 16
    std: float = 0.1
    relative: bool = False
    seed: int = 0
    chunk: int = 4
    normalise: str | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        check_count("chunk", self.chunk)
        if self.std < 0:
            raise AdvfoolError(f"std must not be negative, got {self.std}.")
        if self.normalise is None:
            object.__setattr__(self, "normalise", getattr(self.interpreter, "normalise", "max"))
        check_choice("normalise", self.normalise, Normalise)

    @property
    def signed(self) -> bool:
        return self.interpreter.signed and self.normalise != "minmax"

    @property
    def layer(self) -> str | None:
        """Where the interpreter looks."""
        return getattr(self.interpreter, "layer", None)

    def for_training(self) -> Interpreter:
        return replace(self, interpreter=self.interpreter.for_training(), fresh=True)

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        network, inner = recording.network, self.interpreter.unnormalised()
        classes = recording.classes(targets)

        def maps(draws: Tensor, images: Tensor) -> Tensor:
            noisy = (images + draws).flatten(0, 1)
            found = inner(network, noisy, classes.repeat(len(draws)))
            return found.unflatten(0, (len(draws), len(images))).sum(dim=0)

        with torch.inference_mode(False), torch.set_grad_enabled(recording.create_graph):
            draws = self._noise(recording.images).split(self.chunk)
            return self.scale(bounded_sum(maps, draws, recording, (recording.images,)) / self.samples)

    def _noise(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "samples m c h w"]:
        shape = (self.samples, len(images) if self.fresh else 1, *images.shape[1:])
        if self.fresh:
            noise = torch.randn(shape, device=images.device, dtype=images.dtype)
        else:
            # From the CPU, so that every device measures with the same draws.
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed)).to(images)
        if self.relative:
            low, high = images.detach().flatten(1).aminmax(dim=1)
            noise = noise * (high - low)[:, None, None, None]
        return self.std * noise
