"""Compute heatmaps by layer-wise relevance propagation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal

import torch
from annotated_types import Len
from jaxtyping import Float, Int
from torch import Tensor

from advfool.interpreters.base import LayerInterpreter
from advfool.interpreters.lrp.composites import BatchNorm, Composite, named_composite
from advfool.interpreters.lrp.operations import Key
from advfool.interpreters.lrp.propagation import Propagation
from advfool.interpreters.lrp.rules import Rule
from advfool.interpreters.tracing.recording import Recording
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Positive, Text

Start = Literal["logit", "one"]


@dataclass(frozen=True)
class LRP(LayerInterpreter):
    """Propagate the relevance of a class's logit back layer by layer, and sum it over channels.

    Heatmaps at the images are signed; heatmaps at a layer (LRP_T) are rectified. Heo et al. leave open how some layers
    are treated. Here a batch norm without a convolution before it passes relevance on, sums and average pooling
    share in proportion to their inputs, and max pooling gives all relevance to the maximum.

    Args:
        composite: the rules, as a `Composite` or a name: epsilon_plus, epsilon_alpha2_beta1, epsilon_gamma_box, each
            also with the ending _flat.
        epsilon: the epsilon of linear layers, for a composite given by name.
        stabiliser: moves all other denominators away from zero, for a composite given by name.
        batchnorm: `fold` treats a batch norm as part of the convolution before it, `pass` passes relevance on.
        start: the relevance of the class's output: its `logit`, or `one`, which makes the sign of the heatmap
            independent of the logit's.
        rules: further rules by module class, function or tensor method, for example `{"my.module.Class": "pass"}`.
        mean: the mean of the input's normalisation for each channel; with `std` it gives epsilon_gamma_box the range
            of pixels.
        std: the standard deviation of the input's normalisation for each channel.

    Raises:
        AdvfoolError: a composite, rule or choice is unknown.

    Source: Bach et al. 2015; the composite of Heo et al. 2019, Section 4.1 (Lapuschkin et al. 2017).
    """

    composite: Text | Composite = "epsilon_plus"
    epsilon: Positive = 0.01
    stabiliser: Positive = 1e-6
    batchnorm: BatchNorm = "fold"
    start: Start = "logit"
    rules: Mapping[Key, str | Rule] | None = None
    mean: Annotated[Sequence[float], Len(1)] | None = None
    std: Annotated[Sequence[Positive], Len(1)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise AdvfoolError(f"mean and std must have a number for each channel, got {self.mean} and {self.std}.")
        _ = self.walk  # raises the errors of unknown composites and rules

    @property
    def signed(self) -> bool:
        return self.layer is None and self.normalise != "minmax"

    @property
    def walk(self) -> Propagation:
        """The walk that propagates relevance from the logits to the images or the layer."""
        return self._propagation

    @cached_property
    def _propagation(self) -> Propagation:
        composite = self.composite
        if isinstance(composite, str):
            low, high = (self._normalised(pixel) for pixel in (0.0, 1.0))
            composite = named_composite(composite, self.epsilon, self.stabiliser, low, high)
        if self.batchnorm != "fold":
            composite = replace(composite, batchnorm=self.batchnorm)
        if self.rules:
            composite = replace(composite, rules={**composite.own_rules, **self.rules})
        return Propagation(self.site, composite)

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        logits = recording.logits.float() if recording.logits.dtype.itemsize < 4 else recording.logits
        chosen = torch.zeros_like(logits).scatter(1, recording.classes(targets)[:, None], 1)
        relevance = self.walk(recording, chosen * logits if self.start == "logit" else chosen)
        heatmaps = self.as_maps(relevance).sum(dim=1)
        return self.scale(heatmaps if self.layer is None else self.rectify(heatmaps))

    def _normalised(self, pixel: float) -> tuple[float, ...] | None:
        if self.mean is None or self.std is None:
            return None
        return tuple((pixel - mean) / std for mean, std in zip(self.mean, self.std, strict=True))
