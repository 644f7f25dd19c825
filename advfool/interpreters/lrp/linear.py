"""Linear layers and convolutions as linear maps, with a batch norm folded in, and their transposes."""

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
    """`y = W x + b` of a linear layer or a convolution, with any other weights of the same shape as well."""

    own_weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    pad: Callable[[Tensor], Tensor] | None = None  # what pads the input before the convolution
    scale: Tensor | None = None  # of each output channel

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """`weight x + bias`."""
        if not self.stride:
            return F.linear(x, weight, bias)
        x = self.pad(x) if self.pad else x
        return CONVOLUTIONS[weight.dim() - 3](x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """`weight^T y`, of the shape of the input `x`."""
        y = y.to(weight.dtype)
        if not self.stride:
            return F.linear(y, weight.t())
        if self.pad:
            return _through_padding(self.pad, x, lambda padded: self._transpose(y, weight, padded))
        return self._transpose(y, weight, x)

    def _transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return transposed_convolution(y, weight, x.shape[2:], self.stride, self.padding, self.dilation, self.groups)

    def scaled(self, scale: Tensor, shift: Tensor) -> "LinearMap":
        """The map followed by `scale * y + shift` for each channel: a batch norm folded in."""
        bias = shift if self.bias is None else torch.addcmul(shift, self.bias, scale)
        return replace(self, own_weight=self.weight, scale=scale, bias=bias)

    @property
    def weight(self) -> Tensor:
        """The weights, scaled where a batch norm is folded in."""
        if self.scale is None:
            return self.own_weight
        return self.own_weight * self.scale.reshape(-1, *[1] * (self.own_weight.dim() - 1))

    def positive_weight(self) -> Tensor:
        """The weights with the negative ones at 0."""
        return self.own_weight.relu() if self.scale is None else self.weight.relu_()


def _through_padding(pad: Callable[[Tensor], Tensor], x: Tensor, transpose: Callable[[Tensor], Tensor]) -> Tensor:
    """The transposed map of a padding, applied to what `transpose` gives for the padded input."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        inside = torch.zeros_like(x, requires_grad=True)
        padded = pad(inside)
    return torch.autograd.grad(padded, inside, transpose(padded).to(x.dtype), create_graph=create_graph)[0]


def linear_map(weight: Tensor, bias: Tensor | None = None) -> LinearMap:
    """Of a linear layer."""
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
    """Of a convolution with any padding; `padding="same"` keeps ceil(size / stride), as TensorFlow does."""
    d = weight.dim() - 2
    stride, dilation = ((v,) * d if isinstance(v, int) else tuple(v) for v in (stride, dilation))
    kernel = tuple(weight.shape[2:])
    if padding == "valid":
        padding = 0
    if padding == "same":
        kind = "constant" if mode == "zeros" else mode

        def same(x: Tensor) -> Tensor:
            return F.pad(x, _same_padding(x.shape[2:], kernel, stride, dilation), mode=kind)

        return LinearMap(weight, bias, stride, (0,) * d, dilation, groups, same)
    padding = (padding,) * d if isinstance(padding, int) else tuple(padding)
    if mode == "zeros" or not any(padding):
        return LinearMap(weight, bias, stride, padding, dilation, groups)
    sides = [p for p in reversed(padding) for _ in range(2)]
    return LinearMap(weight, bias, stride, (0,) * d, dilation, groups, lambda x: F.pad(x, sides, mode=mode))


def _same_padding(size, kernel, stride, dilation) -> list[int]:
    sides: list[int] = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
        sides = [total // 2, total - total // 2, *sides]
    return sides


def module_map(module: nn.Module) -> LinearMap:
    """The linear map of a linear or convolution module (timm's Conv2dSame has its padding in its class)."""
    if isinstance(module, nn.Linear):
        return linear_map(module.weight, module.bias)
    same = type(module).__name__ == "Conv2dSame"
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
    """A batch norm in eval mode as `scale * x + shift`, differentiable in its weight and bias.

    The arguments are those of `torch.nn.functional.batch_norm`.
    """
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else weight * scale
    shift = -running_mean * scale
    return scale, shift if bias is None else shift + bias
