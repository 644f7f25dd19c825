"""Represent linear layers and convolutions, with a folded batch norm, as linear maps with transposes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advfool.interpreters.tracing.convolution import transposed_convolution

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)


@dataclass(frozen=True)
class LinearMap:
    """Apply `y = W x + b` of a linear layer or a convolution, with its own or other weights of the same shape.

    Args:
        own_weight: W before scaling.
        bias: b, after scaling.
        stride: the convolution's stride in each dimension; empty for a linear layer.
        padding: its zero padding in each dimension.
        dilation: its dilation in each dimension.
        groups: its number of groups.
        pad: pads the input before the convolution in another way.
        scale: a factor of the weights of each output channel.
    """

    own_weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    pad: Callable[[Tensor], Tensor] | None = None
    scale: Tensor | None = None

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute `weight x + bias`."""
        if not self.stride:
            return F.linear(x, weight, bias)
        x = self.pad(x) if self.pad else x
        return CONVOLUTIONS[weight.dim() - 3](x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """Compute `weight^T y`, in the shape of the input `x`."""
        y = y.to(weight.dtype)
        if not self.stride:
            return F.linear(y, weight.t())
        if self.pad:
            return _through_padding(self.pad, x, lambda padded: self._transpose(y, weight, padded))
        return self._transpose(y, weight, x)

    def _transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return transposed_convolution(y, weight, x.shape[2:], self.stride, self.padding, self.dilation, self.groups)

    def scaled(self, scale: Tensor, shift: Tensor) -> "LinearMap":
        """Return the map followed by `scale * y + shift` for each channel, which folds a batch norm into it."""
        bias = shift if self.bias is None else torch.addcmul(shift, self.bias, scale)
        return replace(self, own_weight=self.weight, scale=scale, bias=bias)

    @property
    def weight(self) -> Tensor:
        """The weights, scaled where a batch norm is folded in."""
        if self.scale is None:
            return self.own_weight
        return self.own_weight * self.scale.reshape(-1, *[1] * (self.own_weight.dim() - 1))

    def positive_weight(self) -> Tensor:
        """Return the weights with negative ones set to 0."""
        return self.own_weight.relu() if self.scale is None else self.weight.relu_()


def _through_padding(pad: Callable[[Tensor], Tensor], x: Tensor, transpose: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply the transpose of a padding to the result of `transpose` for the padded input."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        inside = torch.zeros_like(x, requires_grad=True)
        padded = pad(inside)
    return torch.autograd.grad(padded, inside, transpose(padded).to(x.dtype), create_graph=create_graph)[0]


def linear_map(weight: Tensor, bias: Tensor | None = None) -> LinearMap:
    """Return the linear map of a linear layer."""
    return LinearMap(weight, bias)


def convolution_map(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    mode: str = "zeros",
) -> LinearMap:
    """Return the linear map of a convolution.

    Args:
        weight: the convolution's weights.
        bias: its bias.
        stride: its stride, one number or one for each dimension.
        padding: its padding, likewise, or `valid` (none), or `same`: the output has size ceil(size / stride), as in
            TensorFlow.
        dilation: its dilation, one number or one for each dimension.
        groups: its number of groups.
        mode: the values of the padding, as in `torch.nn.Conv2d`.
    """
    d = weight.dim() - 2
    strides, dilations = ((v,) * d if isinstance(v, int) else tuple(v) for v in (stride, dilation))
    kernel = tuple(weight.shape[2:])
    if isinstance(padding, str) and padding == "same":
        kind = "constant" if mode == "zeros" else mode

        def same(x: Tensor) -> Tensor:
            return F.pad(x, _same_padding(x.shape[2:], kernel, strides, dilations), mode=kind)

        return LinearMap(weight, bias, strides, (0,) * d, dilations, groups, same)
    number = 0 if isinstance(padding, str) else padding  # "valid" is no padding
    paddings = (number,) * d if isinstance(number, int) else tuple(number)
    if mode == "zeros" or not any(paddings):
        return LinearMap(weight, bias, strides, paddings, dilations, groups)
    sides = [p for p in reversed(paddings) for _ in range(2)]
    return LinearMap(weight, bias, strides, (0,) * d, dilations, groups, lambda x: F.pad(x, sides, mode=mode))


def _same_padding(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Return the padding of each side, last dimension first, that keeps ceil(size / stride)."""
    sides: list[int] = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
        sides = [total // 2, total - total // 2, *sides]
    return sides


def module_map(module: nn.Module) -> LinearMap:
    """Return the linear map of a linear or convolution module, including timm's Conv2dSame."""
    if isinstance(module, nn.Linear):
        return linear_map(module.weight, module.bias)
    assert isinstance(module, nn.modules.conv._ConvNd)
    same = type(module).__name__ == "Conv2dSame"  # whose padding is part of its class
    return convolution_map(
        module.weight,
        module.bias,
        module.stride,
        "same" if same else module.padding,
        module.dilation,
        module.groups,
        module.padding_mode,
    )


def batch_norm_scale(
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """Return the scale and shift of a batch norm in eval mode, `scale * x + shift`.

    Both are differentiable in the batch norm's weight and bias. The arguments are those of
    `torch.nn.functional.batch_norm`.
    """
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else weight * scale
    shift = -running_mean * scale
    return scale, shift if bias is None else shift + bias
