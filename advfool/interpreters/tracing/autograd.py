"""Compute second derivatives of convolutions and batch norms at the cost of first derivatives.

Training through a heatmap that is made of gradients differentiates a gradient. torch's own second derivative of a
convolution computes weight gradients by convolutions with huge kernels, and that of a batch norm in eval mode passes
over its input a dozen times. Here the gradient with respect to the input is a transposed convolution, or a scaling,
that has a backward pass of its own. Values are the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from advfool.interpreters.tracing.convolution import transposed_convolution


class SecondDerivatives(TorchFunctionMode):
    """Replace two-dimensional convolutions and batch norms in eval mode within a context by those of this module.

    The attribute `active` switches the replacement on, at the first site that is differentiated. The attribute
    `inputs_only` is true while gradients are taken with respect to activations; weight gradients are then skipped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.active = self.inputs_only = False

    @contextmanager
    def of_activations(self) -> Iterator[None]:
        """Skip weight gradients within a context that takes gradients with respect to activations."""
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
        # Weights that are computed from activations (dynamic convolution) need their gradient, too.
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
    """Return whether a checkpoint runs this region again in the backward pass, where this mode is not active."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks  # pyright: ignore[reportAttributeAccessIssue]
    return hooks(False) is not None


class _Convolution(torch.autograd.Function):
    """Compute a convolution; in grad mode its input gradient is a transposed convolution."""

    @staticmethod
    def forward(ctx, x, weight, bias, mode, stride, padding, dilation, groups):
        ctx.save_for_backward(x, weight)
        ctx.mode, ctx.has_bias = mode, bias is not None
        ctx.shape = (stride, padding, dilation, groups)
        with torch.autocast(x.device.type, enabled=False):
            return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx, *grad_outputs):
        (gradient,) = grad_outputs
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
    """Compute a batch norm in eval mode; in grad mode its input gradient is a scaling."""

    @staticmethod
    def forward(ctx, x, weight, bias, mode, mean, variance, eps):
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.mode, ctx.eps = mode, eps
        return torch.batch_norm(x, weight, bias, mean, variance, False, 0.0, eps, False)

    @staticmethod
    def backward(ctx, *grad_outputs):
        (gradient,) = grad_outputs
        x, weight, mean, variance = ctx.saved_tensors
        nothing = (None,) * 4
        if ctx.mode.inputs_only and torch.is_grad_enabled():
            return (_Scaling.apply(gradient, weight, variance, ctx.eps), None, None, *nothing)
        found = _batch_norm_backward(gradient, x, weight, mean, variance, ctx.eps, list(ctx.needs_input_grad[:3]))
        return (*found, *nothing)


class _Scaling(torch.autograd.Function):
    """Compute `y * weight / sqrt(variance + eps)`, the gradient of a batch norm with respect to its input."""

    @staticmethod
    def forward(ctx, y, weight, variance, eps):
        ctx.save_for_backward(y, weight, variance)
        ctx.eps = eps
        scale = weight * (variance + eps).rsqrt()
        return y * scale.reshape(-1, *[1] * (y.dim() - 2))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride] - torch's decorator loses the name
        (gradient,) = grad_outputs
        y, weight, variance = ctx.saved_tensors
        # Both gradients are those of a batch norm with mean 0.
        mean = torch.zeros_like(variance)
        found = _batch_norm_backward(gradient, y, weight, mean, variance, ctx.eps, [True, True, False])
        return found[0], found[1], None, None


def _batch_norm_backward(gradient, x, weight, mean, variance, eps: float, wanted: list[bool]):
    """Compute the gradients of a batch norm in eval mode, whose batch statistics are empty."""
    none = mean.new_empty(0)
    return torch.ops.aten.native_batch_norm_backward(
        gradient, x, weight, mean, variance, none, none, False, eps, wanted
    )
