"""Convolution and batch norm whose second derivatives cost what their first ones do.

A heatmap made of gradients is trained through by differentiating a gradient. torch's own second derivative of a
convolution takes weight gradients by convolutions with huge kernels, that of a batch norm in eval mode a dozen passes
over its input. Here the gradient for the input is itself a transposed convolution, or a scaling, with a backward
pass of its own. Values are the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from advfool.interpreters.tracing.convolution import transposed_convolution


class SecondDerivatives(TorchFunctionMode):
    """Within it, two-dimensional convolutions and batch norms in eval mode are the ones of this module.

    `active`: before the first site that is differentiated, torch's own will do. `inputs_only`: the gradient being
    taken is for activations alone, those of the weights are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.active = self.inputs_only = False

    @contextmanager
    def of_activations(self) -> Iterator[None]:
        """A context for taking gradients with respect to activations."""
        self.inputs_only = True
        try:
            yield
        finally:
            self.inputs_only = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        ours = {F.conv2d: self._convolution, F.batch_norm: self._batch_norm}.get(function)
        if ours is None or not self.active or _checkpointed():
            ours = function
        return ours(*args, **(kwargs or {}))

    def _convolution(self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        # Weights made from activations (dynamic convolution) have a path of their own to the images.
        if isinstance(padding, str) or input.dim() != 4 or not weight.is_leaf:
            return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
        device = input.device.type
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
            input, weight, bias = (None if t is None else t.to(kind) for t in (input, weight, bias))
        stride, padding, dilation = ([v, v] if isinstance(v, int) else list(v) for v in (stride, padding, dilation))
        return _Convolution.apply(input, weight, bias, self, stride, padding, dilation, groups)

    def _batch_norm(
        self, input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
    ):
        if training or weight is None or bias is None or input.dtype != weight.dtype or not weight.is_leaf:
            return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        return _BatchNorm.apply(input, weight, bias, self, running_mean, running_var, eps)


def _checkpointed() -> bool:
    """Whether the region runs again in the backward pass, outside the mode, and has to find the same there."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, mode, stride, padding, dilation, groups):
        ctx.save_for_backward(x, weight)
        ctx.mode, ctx.has_bias = mode, bias is not None
        ctx.shape = (stride, padding, dilation, groups)
        with torch.autocast(x.device.type, enabled=False):
            return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.shape
        nothing = (None,) * 5
        if ctx.mode.inputs_only and torch.is_grad_enabled():
            found = transposed_convolution(gradient, weight, x.shape[2:], stride, padding, dilation, groups)
            return (found, None, None, *nothing)
        found = torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            [len(weight)] if ctx.has_bias else None,
            *(stride, padding, dilation, False, [0, 0], groups),
            [*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2]],
        )
        return (*found, *nothing)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, mode, mean, variance, eps):
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.mode, ctx.eps = mode, eps
        return torch.batch_norm(x, weight, bias, mean, variance, False, 0.0, eps, False)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, mean, variance = ctx.saved_tensors
        nothing = (None,) * 4
        if ctx.mode.inputs_only and torch.is_grad_enabled():
            return (_Scaling.apply(gradient, weight, variance, ctx.eps), None, None, *nothing)
        found = _batch_norm_backward(gradient, x, weight, mean, variance, ctx.eps, list(ctx.needs_input_grad[:3]))
        return (*found, *nothing)


class _Scaling(torch.autograd.Function):
    """`y * weight / sqrt(variance + eps)`: the gradient of a batch norm for its input."""

    @staticmethod
    def forward(ctx, y, weight, variance, eps):
        ctx.save_for_backward(y, weight, variance)
        ctx.eps = eps
        scale = weight * (variance + eps).rsqrt()
        return y * scale.reshape(-1, *[1] * (y.dim() - 2))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        y, weight, variance = ctx.saved_tensors
        # The same two sums as a batch norm's, of a batch norm with mean 0.
        mean = torch.zeros_like(variance)
        found = _batch_norm_backward(gradient, y, weight, mean, variance, ctx.eps, [True, True, False])
        return found[0], found[1], None, None


def _batch_norm_backward(gradient, x, weight, mean, variance, eps: float, wanted: list[bool]):
    """A batch norm's gradients in eval mode; the batch's own statistics are empty, as its forward pass returns them."""
    none = mean.new_empty(0)
    return torch.ops.aten.native_batch_norm_backward(
        gradient, x, weight, mean, variance, none, none, False, eps, wanted
    )
