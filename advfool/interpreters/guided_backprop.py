"""Compute guided backpropagation: ReLUs pass only positive gradients."""

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Len
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from advfool.interpreters.base import LayerInterpreter
from advfool.interpreters.gradient import SimpleGrad
from advfool.interpreters.tracing.recording import Recording, record

Guided = Literal["relu", "relu6"]


@dataclass(frozen=True)
class GuidedBackprop(LayerInterpreter):
    """Compute `sum_k abs(g_k)`, where g is the gradient that every ReLU passes back only where it is positive.

    The interpreter runs a forward pass of its own. It handles modules, functions and in-place forms alike. Other
    activations keep their gradient; a network without a guided activation gets the heatmaps of SimpleGrad, with a
    warning.

    Args:
        guided: the activations to guide: `relu` (as in the paper and in captum), `relu6`.

    Raises:
        AdvfoolError: `guided` holds another name.

    Source: Springenberg et al. 2015, Section 3.4.
    """

    guided: Annotated[Sequence[Guided], Len(1)] = ("relu",)

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        inner = SimpleGrad(self.layer, self.layer_side, self.layout, normalise=self.normalise)
        with torch.set_grad_enabled(recording.create_graph), _Guiding(self.guided) as guiding:
            own = record(recording.network, recording.images, [inner])
        if not guiding.count:
            warnings.warn(
                f"guided_backprop: {type(recording.network).__name__} runs no {' or '.join(self.guided)}, so its "
                "heatmaps are those of SimpleGrad. interp.guided=[relu,relu6] also guides ReLU6.",
                stacklevel=2,
            )
        return inner.read(own, targets)


class _Guiding(TorchFunctionMode):
    """Replace ReLUs within a context by ReLUs that pass back only positive gradients, and count them."""

    FORMS: ClassVar = {F.relu, torch.relu, Tensor.relu, F.relu_, torch.relu_, Tensor.relu_, F.relu6, F.hardtanh}

    def __init__(self, guided: Sequence[str]) -> None:
        super().__init__()
        self.guided, self.count = guided, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function not in self.FORMS:
            return function(*args, **kwargs)
        if function in (F.relu, F.relu6, F.hardtanh):
            settings = inspect.signature(function).bind(*args, **kwargs).arguments
        else:
            settings = {"input": args[0] if args else kwargs["input"], "inplace": function.__name__.endswith("_")}
        clipped = function in (F.relu6, F.hardtanh)
        kind = "relu6" if clipped else "relu"
        if kind not in self.guided or (function is F.hardtanh and settings.get("min_val") != 0):
            return function(*args, **kwargs)
        self.count += 1
        x, in_place = settings["input"], settings.get("inplace", False)
        top = settings.get("max_val", 6.0) if clipped else float("inf")
        with torch._C.DisableTorchFunction():
            y = _GuidedReLU.apply(x.clone() if in_place else x, top)
            return x.copy_(y) if in_place else y


class _GuidedReLU(torch.autograd.Function):
    """Compute a (clipped) ReLU with a rectified gradient that is itself differentiable."""

    @staticmethod
    def forward(ctx, x, top):
        y = x.clamp(0, top)
        ctx.save_for_backward(y)
        ctx.top = top
        return y

    @staticmethod
    def backward(ctx, *grad_outputs):
        (gradient,) = grad_outputs
        (y,) = ctx.saved_tensors
        return gradient.relu() * ((y > 0) & (y < ctx.top)), None
