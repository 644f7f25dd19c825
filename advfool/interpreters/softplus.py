"""Compute heatmaps on the network with its ReLUs smoothed, whose gradients change less from place to place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from advfool.interpreters.tracing.recording import Recording, record
from advfool.interpreters.wrapping import Wrapping
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Positive

RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)


@dataclass(frozen=True)
class Softplus(Wrapping):
    """Explain the network with `softplus(beta x) / beta` in place of every ReLU of its forward pass.

    Predictions are those of the unchanged network; only the heatmap is read from a pass of the smoothed one. Other
    activations (GELU, SiLU, ReLU6) stay as they are.

    Args:
        interpreter: the interpreter, which explains by gradients.
        beta: how sharply the softplus bends; the larger, the closer to a ReLU.

    Raises:
        AdvfoolError: the interpreter propagates relevance by rules for ReLUs (LRP), or a value is out of range.

    Source: Dombrowski et al. 2019, Section 4 (beta smoothing).
    """

    beta: Positive = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interpreter.walk is not None:
            raise AdvfoolError(
                f"interpreter: expected one that explains by gradients, got {type(self.interpreter).__name__}, whose "
                "rules are made for ReLUs. Use SimpleGrad, Grad-CAM or another one of gradients."
            )

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        classes = recording.classes(targets)
        inner = self.interpreter.unnormalised()
        with torch.inference_mode(False), torch.set_grad_enabled(recording.create_graph):
            with SmoothedReLUs(self.beta):
                smooth = record(recording.network, recording.images, [inner])
            return self.scale(inner.read(smooth, classes))


class SmoothedReLUs(TorchFunctionMode):
    """Let every ReLU that is called meanwhile be a softplus.

    Args:
        beta: see `Softplus`.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in RELUS:
            return F.softplus(args[0] if args else (kwargs or {})["input"], self.beta)
        return func(*args, **(kwargs or {}))
