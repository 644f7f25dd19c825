"""Compute SmoothGrad: the mean of an interpreter's heatmaps over noisy copies of the image."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advfool.interpreters.base import Interpreter
from advfool.interpreters.chunks import bounded_sum
from advfool.interpreters.tracing.recording import Recording
from advfool.interpreters.wrapping import Wrapping
from advfool.utilities.kinds import Count, NonNegative, Seed


@dataclass(frozen=True)
class SmoothGrad(Wrapping):
    """Average an interpreter's unnormalised heatmaps over noisy copies of the image, then normalise the mean.

    Args:
        interpreter: the interpreter whose heatmaps are averaged; its normalisation is the default one.
        samples: number of noisy copies of each image, at least 1.
        std: standard deviation of the Gaussian noise, in units of the network's normalised input.
        relative: take `std` as a fraction of each image's range of values.
        seed: seed of the noise of measurements, which is the same for every image and network.
        chunk: number of noisy copies of the batch in memory at the same time, at least 1.
        fresh: draw new noise for every image and call; `for_training` sets it.

    Raises:
        AdvfoolError: a value lies outside its range.

    Source: Smilkov et al. 2017 (`relative=True`); the absolute noise is that of Heo et al. 2019.
    """

    samples: Count = 16
    std: NonNegative = 0.1
    relative: bool = False
    seed: Seed = 0
    chunk: Count = 4
    fresh: bool = False

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
            # The CPU's generator gives every device the same draws.
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed)).to(images)
        if self.relative:
            low, high = images.detach().flatten(1).aminmax(dim=1)
            noise = noise * (high - low)[:, None, None, None]
        return self.std * noise
