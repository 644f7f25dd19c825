"""Guided backpropagation: ReLUs that pass only positive gradients."""

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from advfool.interpreters.base import LayerInterpreter
from advfool.interpreters.gradient import SimpleGrad
from advfool.interpreters.tracing.recording import Recording, record
from advfool.utilities.errors import AdvfoolError

Guided = Literal["relu", "relu6"]


@dataclass(frozen=True)
class GuidedBackprop(LayerInterpreter):
    """`sum_k abs(g_k)`, g the gradient that every ReLU hands back only where it is positive.

    Runs a pass of its own. `guided` names what is guided: `relu` (as in the paper and captum), or `relu6` as well;
    other activations keep their gradient, so that a network without a guided one has SimpleGrad's maps (a warning
    says so). Functional and in-place forms count as the modules do.

    Source: Springenberg et al. 2015, Section 3.4.
    """

    guided: Sequence[str] = ("relu",)

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = set(self.guided) - set(get_args(Guided))
        if unknown:
            raise AdvfoolError(f"guided: expected {', '.join(get_args(Guided))}, got {', '.join(sorted(unknown))}.")

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        inner = SimpleGrad(self.layer, self.layer_side, self.layout, normalise=self.normalise)
        with torch.set_grad_enabled(recording.create_graph), _Guiding(self.guided) as guiding:
            own = record(recording.network, recording.images, [inner])
        if not guiding.count:
            warnings.warn(
                f"guided_backprop: {type(recording.network).__name__} runs no {' or '.join(self.guided)}, so its maps "
                "are SimpleGrad's. interp.guided=[relu,relu6] guides ReLU6, too.",
                stacklevel=2,
            )
        return inner.read(own, targets)


class _Guiding(TorchFunctionMode):
    """Within it, ReLUs hand back positive gradients only."""

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
    """A (clipped) ReLU whose gradient is rectified; differentiable again."""

    @staticmethod
    def forward(ctx, x, top):
        y = x.clamp(0, top)
        ctx.save_for_backward(y)
        ctx.top = top
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient.relu() * ((y > 0) & (y < ctx.top)), None
