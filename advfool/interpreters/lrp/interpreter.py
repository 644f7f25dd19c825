"""Layer-wise relevance propagation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advfool.interpreters.base import LayerInterpreter
from advfool.interpreters.lrp.composites import BatchNorm, Composite, named_composite
from advfool.interpreters.lrp.operations import Key
from advfool.interpreters.lrp.propagation import Propagation
from advfool.interpreters.lrp.rules import Rule
from advfool.interpreters.tracing.recording import Recording
from advfool.utilities.errors import check_choice

Start = Literal["logit", "one"]


@dataclass(frozen=True)
class LRP(LayerInterpreter):
    """Relevance of the class's logit, handed back layer by layer and summed over channels.

    At the images it is signed; at a layer (LRP_T) it is rectified.

    composite: a name (epsilon_plus, epsilon_alpha2_beta1, epsilon_gamma_box, each also with _flat) or a Composite;
    with a name, `epsilon` is that of linear layers and `stabiliser` that of all other divisions. `rules` adds rules
    for module classes, functions and tensor methods: `{"my.module.Class": "pass"}`. `mean` and `std` of the input's
    normalisation give epsilon_gamma_box the range of pixels. batchnorm: `fold` it into the convolution before it, or
    `pass`. start: the class's `logit`, or `one`, which gives maps of one sign whatever the logit's.

    Deviations that Heo et al. leave open: batch norm without a convolution before it passes relevance on; sums and
    average pooling share in proportion to their inputs; max pooling gives to the winner.

    Source: Bach et al. 2015; the composite of Heo et al. 2019, Section 4.1 (Lapuschkin et al. 2017).
    """

    composite: str | Composite = "epsilon_plus"
    epsilon: float = 0.01
    stabiliser: float = 1e-6
    batchnorm: str = "fold"
    start: str = "logit"
    rules: Mapping[Key, str | Rule] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("start", self.start, Start)
        check_choice("batchnorm", self.batchnorm, BatchNorm)
        _ = self.walk  # an unknown composite or rule is an error here

    @property
    def signed(self) -> bool:
        return self.layer is None and self.normalise != "minmax"

    @cached_property
    def walk(self) -> Propagation:
        """The walk that hands relevance back."""
        composite = self.composite
        if isinstance(composite, str):
            low, high = (self._normalised(pixel) for pixel in (0.0, 1.0))
            composite = named_composite(composite, self.epsilon, self.stabiliser, low, high)
        if self.batchnorm != "fold":
            composite = replace(composite, batchnorm=self.batchnorm)
        if self.rules:
            composite = replace(composite, rules={**dict(composite.rules), **self.rules})
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
