"""Compute Integrated Gradients: the gradient averaged along a path from a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Len
from jaxtyping import Float, Int
from torch import Tensor

from advfool.interpreters.base import LayerInterpreter
from advfool.interpreters.chunks import bounded_sum
from advfool.interpreters.tracing.recording import Recording, record
from advfool.interpreters.tracing.sites import Site
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count


@dataclass(frozen=True)
class IntegratedGradients(LayerInterpreter):
    """Compute `sum_k (x_k - x'_k) * mean_t(d score / d x_k at x' + t (x - x'))` by the midpoint rule.

    Heatmaps are signed; without normalisation they sum to about score(x) - score(x'), exactly in the limit of many
    steps. At a layer, x and x' are its activations for the image and for the baseline image.

    Args:
        steps: number of points on the path, at least 1.
        baseline: value of all pixels of the baseline image x', in units of the network's normalised input, as one
            number or one for each channel; 0 is the mean colour of the data.
        chunk: number of points of the batch's paths in memory at the same time, at least 1.

    Raises:
        AdvfoolError: `steps` or `chunk` is below 1, or `baseline` does not match the number of channels.

    Source: Sundararajan et al. 2017, eqs. 1 and 3.
    """

    steps: Count = 16
    baseline: float | Annotated[Sequence[float], Len(1)] = 0.0
    chunk: Count = 4

    @property
    def signed(self) -> bool:
        return self.normalise != "minmax"

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        images, network, classes = recording.images, recording.network, recording.classes(targets)
        end = recording.at(self.site)
        with torch.inference_mode(False), torch.set_grad_enabled(recording.create_graph):
            baseline = self._baseline(images)
            start = [baseline] if self.layer is None else record(network, baseline, [self]).at(self.site)
            if not recording.create_graph:
                start, end = ([t.detach() for t in tensors] for tensors in (start, end))
            ends = (*start, *end)

            def gradients(points: Tensor, *ends: Tensor) -> Tensor:
                start, end = ends[: len(ends) // 2], ends[len(ends) // 2 :]
                path = [torch.cat([a + t * (b - a) for t in points]) for a, b in zip(start, end, strict=True)]
                repeated = images.repeat(len(points), 1, 1, 1)
                # `path` replaces the activation at the site; the images only give the pass its shape.
                own = record(network, repeated, [self], {self.site: path})
                found = self.as_maps(own.gradients(classes.repeat(len(points)), self.site))
                return found.unflatten(0, (len(points), len(images))).sum(dim=0)

            points = ((torch.arange(self.steps, dtype=images.dtype, device=images.device) + 0.5) / self.steps).to(
                end[0]
            )
            mean = bounded_sum(gradients, points.split(self.chunk), recording, ends) / self.steps
            difference = self.as_maps(list(end)) - self.as_maps(list(start))
            return self.scale((difference * mean).sum(dim=1))

    def _baseline(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        value = torch.as_tensor(self.baseline, dtype=images.dtype, device=images.device)
        if value.numel() not in (1, images.shape[1]):
            raise AdvfoolError(
                f"baseline: expected one number or {images.shape[1]} (one a channel), got {self.baseline}."
            )
        return value.reshape(-1, 1, 1).expand(images.shape[1:]).expand_as(images)
