"""Compute the mean of several interpreters' heatmaps, which an attack has to fool together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Len
from jaxtyping import Float, Int
from torch import Tensor

from advfool.interpreters.base import Interpreter
from advfool.interpreters.tracing.recording import Recording, Walk
from advfool.interpreters.tracing.sites import Site
from advfool.utilities.heatmaps import Normalise


@dataclass(frozen=True)
class Aggregate(Interpreter):
    """Average the normalised heatmaps of several interpreters, enlarged to the size of the largest one.

    Args:
        interpreters: at least two. Their maps count equally, each scaled as its interpreter does; signed maps keep
            their signs.

    Raises:
        AdvfoolError: there are fewer than two interpreters.

    Source: Rieger and Hansen 2020, Section 3 (AGG-Mean).
    """

    interpreters: Annotated[Sequence[Interpreter], Len(2)]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "interpreters", tuple(self.interpreters))

    @property
    def default_normalise(self) -> Normalise:
        return "max"

    @property
    def signed(self) -> bool:
        return any(each.signed for each in self.interpreters) and self.normalise != "minmax"

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(dict.fromkeys(site for each in self.interpreters for site in each.sites))

    @property
    def walk(self) -> Walk | None:
        return next((each.walk for each in self.interpreters if each.walk is not None), None)

    def for_training(self) -> Interpreter:
        return replace(self, interpreters=[each.for_training() for each in self.interpreters])

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        maps = [self._read(each, recording, targets) for each in self.interpreters]
        size = max((each.shape[-2:] for each in maps), key=lambda sides: sides[0] * sides[1])
        enlarged = [F.interpolate(each[:, None], size, mode="bilinear")[:, 0] for each in maps]
        return self.scale(torch.stack(enlarged).mean(dim=0))

    def _read(
        self, interpreter: Interpreter, recording: Recording, targets: Int[Tensor, "n"] | int
    ) -> Float[Tensor, "n h w"]:
        """Read from the shared pass, or from one of its own where the interpreter walks the graph in its own way."""
        if interpreter.walk is None or interpreter.walk == self.walk:
            return interpreter.read(recording, targets)
        with torch.inference_mode(False), torch.set_grad_enabled(recording.create_graph):
            return interpreter(recording.network, recording.images, targets)
