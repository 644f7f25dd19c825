"""Represent convolutions and transposed convolutions as linear maps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advfool.interpreters.lrp.linear import LinearMap, WeightedMap, linear_map
from advfool.interpreters.tracing.convolution import TRANSPOSED, transposed_convolution

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)


@dataclass(frozen=True, kw_only=True)
class ConvolutionMap(WeightedMap):
    """Represent a convolution.

    Args:
        stride: its stride in each dimension.
        padding: its zero padding in each dimension.
        dilation: its dilation in each dimension.
        groups: its number of groups.
        pad: pads the input before the convolution in another way.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    pad: Callable[[Tensor], Tensor] | None = None

    @property
    def dims(self) -> int:
        return self.own_weight.dim()

    @property
    def joins(self) -> tuple[int, int] | None:
        return (1, 1) if self.groups == 1 else None

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = self.pad(x) if self.pad else x
        return CONVOLUTIONS[weight.dim() - 3](x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        y = y.to(weight.dtype)
        if self.pad:
            return _through_padding(self.pad, x, lambda padded: self._transpose(y, weight, padded))
        return self._transpose(y, weight, x)

    def _transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return transposed_convolution(y, weight, x.shape[2:], self.stride, self.padding, self.dilation, self.groups)


@dataclass(frozen=True, kw_only=True)
class TransposedMap(WeightedMap):
    """Represent a transposed convolution, whose weights have the input's channels first.

    Args:
        stride: its stride in each dimension.
        padding: what it cuts off its output on both sides in each dimension.
        output_padding: what it adds to the end of its output in each dimension.
        dilation: its dilation in each dimension.
        groups: its number of groups.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def dims(self) -> int:
        return self.own_weight.dim()

    @property
    def joins(self) -> tuple[int, int] | None:
        return (1, 0) if self.groups == 1 else None

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        transposed = TRANSPOSED[weight.dim() - 3]
        sizes = (self.stride, self.padding, self.output_padding)
        return transposed(x, weight, bias, *sizes, self.groups, self.dilation)

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        sizes = (self.stride, self.padding, self.dilation)
        found = CONVOLUTIONS[weight.dim() - 3](y.to(weight.dtype), weight, None, *sizes, self.groups)
        for axis in range(2, x.dim()):  # an output padding of more than the stride lets more positions fit
            found = found.narrow(axis, 0, x.shape[axis])
        return found

    def _scaled(self, weight: Tensor, scale: Tensor) -> Tensor:
        grouped = weight.unflatten(0, (self.groups, -1))  # (groups, inputs, outputs of a group, ...)
        factors = scale.reshape(self.groups, 1, -1, *[1] * (weight.dim() - 2))
        return (grouped * factors).flatten(0, 1)


def _through_padding(pad: Callable[[Tensor], Tensor], x: Tensor, transpose: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply the transpose of a padding to the result of `transpose` for the padded input."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        inside = torch.zeros_like(x, requires_grad=True)
        padded = pad(inside)
    return torch.autograd.grad(padded, inside, transpose(padded).to(x.dtype), create_graph=create_graph)[0]


def convolution_map(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    mode: str = "zeros",
) -> ConvolutionMap:
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
    strides, dilations = _each(stride, d), _each(dilation, d)
    kernel = tuple(weight.shape[2:])
    pad: Callable[[Tensor], Tensor] | None = None
    paddings = (0,) * d
    if isinstance(padding, str) and padding == "same":
        kind = "constant" if mode == "zeros" else mode

        def same(x: Tensor) -> Tensor:
            return F.pad(x, _same_padding(x.shape[2:], kernel, strides, dilations), mode=kind)

        pad = same

    elif not isinstance(padding, str):  # "valid" is no padding
        paddings = _each(padding, d)
        if mode != "zeros" and any(paddings):
            sides, paddings = [p for p in reversed(paddings) for _ in range(2)], (0,) * d
            pad = partial(F.pad, pad=sides, mode=mode)

    return ConvolutionMap(weight, bias, stride=strides, padding=paddings, dilation=dilations, groups=groups, pad=pad)


def transposed_map(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> TransposedMap:
    """Return the linear map of a transposed convolution; the arguments are those of torch's function."""
    sizes = (_each(value, weight.dim() - 2) for value in (stride, padding, output_padding, dilation))
    names = ("stride", "padding", "output_padding", "dilation")
    return TransposedMap(weight, bias, groups=groups, **dict(zip(names, sizes, strict=True)))


def _each(value: int | Sequence[int], d: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * d if len(values) == 1 else values


def _same_padding(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Return the padding of each side, last dimension first, that keeps ceil(size / stride)."""
    sides: list[int] = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
        sides = [total // 2, total - total // 2, *sides]
    return sides


def module_map(module: nn.Module, x: Tensor, output_size: list[int] | None = None) -> LinearMap:
    """Return the linear map of a linear or (transposed) convolution module, including timm's Conv2dSame.

    Args:
        module: the module.
        x: its input.
        output_size: the size that a transposed convolution was asked for.
    """
    if isinstance(module, nn.Linear):
        return linear_map(module.weight, module.bias)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        padding = cast(tuple[int, ...], module.padding)  # words are for convolutions alone
        stride, cut, kernel = (list(value) for value in (module.stride, padding, module.kernel_size))
        d, dilation = module.weight.dim() - 2, list(module.dilation)
        added = module._output_padding(x, output_size, stride, cut, kernel, d, dilation)
        places = (module.stride, padding, added, module.groups, module.dilation)
        return transposed_map(module.weight, module.bias, *places)
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
