"""Compute heatmaps from the gradient of the score."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from advfool.interpreters.base import LayerInterpreter
from advfool.interpreters.tracing.recording import Recording
from advfool.interpreters.tracing.sites import Site


@dataclass(frozen=True)
class SimpleGrad(LayerInterpreter):
    """Compute `sum_k abs(d score / d x_k)` over the channels of the images, or of a layer's activation (SimpleGrad_T).

    Args:
        times_input: compute Gradient x Input instead, `sum_k x_k d score / d x_k`, which is signed.

    Source: Simonyan et al. 2013, Section 3.1 (the sum over channels is Heo et al.'s); Shrikumar et al. 2016.
    """

    times_input: bool = False

    @property
    def signed(self) -> bool:
        return self.times_input and self.normalise != "minmax"

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        gradient = self.as_maps(recording.gradients(targets, self.site))
        if self.times_input:
            return self.scale((gradient * self.as_maps(recording.at(self.site))).sum(dim=1))
        return self.scale(gradient.abs().sum(dim=1))
