"""Represent layers that are linear in their input as linear maps with transposes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


class LinearMap(ABC):
    """Apply `y = W x + b`, with its own or other weights of the same shape (abstract).

    The attribute `bias` holds b, in a shape that `apply` takes.
    """

    bias: Tensor | None

    @property
    def joins(self) -> tuple[int, int] | None:
        """The axes of x and of W along which several pairs can be joined, whose map is the sum of theirs, or None."""
        return None

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The weights, scaled where a batch norm is folded in."""

    @abstractmethod
    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute `weight x + bias`."""

    @abstractmethod
    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """Compute `weight^T y`, in the shape of the input `x`."""

    @property
    def unscaled(self) -> "LinearMap":
        """The map whose inputs all count alike where all weights are equal."""
        return self

    def positive_weight(self) -> Tensor:
        """Return the weights with negative ones set to 0."""
        return self.weight.relu()

    def followed_by(self, scale: Tensor, shift: Tensor, x: Tensor) -> "LinearMap":
        """Return the map followed by a batch norm, which computes `scale * y + shift` along axis 1 of the output y.

        Args:
            scale: a factor for each position of axis 1.
            shift: a summand for each position of axis 1.
            x: the input of the map.
        """
        return ScaledMap.of(self, scale, shift, self.apply(x, self.weight, None).dim())


@dataclass(frozen=True)
class WeightedMap(LinearMap):
    """Represent a layer with weights of its own, into which a batch norm can be folded (abstract).

    Args:
        own_weight: W before scaling.
        bias: b, after scaling.
        scale: a factor of the weights of each output channel, in a shape that fits W.
    """

    own_weight: Tensor
    bias: Tensor | None
    scale: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        return self.own_weight if self.scale is None else self._scaled(self.own_weight, self.scale)

    @property
    @abstractmethod
    def dims(self) -> int:
        """The number of dimensions of x for which axis 1 is that of the output's channels."""

    def positive_weight(self) -> Tensor:
        return self.own_weight.relu() if self.scale is None else self.weight.relu_()

    def followed_by(self, scale: Tensor, shift: Tensor, x: Tensor) -> LinearMap:
        if x.dim() != self.dims:
            return ScaledMap.of(self, scale, shift, x.dim())
        bias = shift if self.bias is None else torch.addcmul(shift, self.bias, scale)
        return replace(self, own_weight=self.weight, scale=scale, bias=bias)

    def _scaled(self, weight: Tensor, scale: Tensor) -> Tensor:
        return weight * scale.reshape(-1, *[1] * (weight.dim() - 1))


@dataclass(frozen=True)
class DenseMap(WeightedMap):
    """Represent a linear layer, which maps the last axis."""

    @property
    def dims(self) -> int:
        return 2

    @property
    def joins(self) -> tuple[int, int]:
        return (-1, 1)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return F.linear(y.to(weight.dtype), weight.t())


@dataclass(frozen=True)
class ScaledMap(LinearMap):
    """Represent a map followed by a factor and a summand along axis 1 of its output, whatever that axis means.

    Its weights are pairs: those where the factor is positive, and their negatives where it is negative, so that a
    weight's sign is that of its contribution.

    Args:
        inner: the map.
        up: the factor where it is positive, elsewhere 0, in a shape that fits the output.
        down: the negative factor where it is negative, elsewhere 0, likewise.
        bias: the whole layer's bias, likewise.
    """

    inner: LinearMap
    up: Tensor
    down: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, inner: LinearMap, scale: Tensor, shift: Tensor, dims: int) -> "ScaledMap":
        """Return a map followed by `scale * y + shift` along axis 1 of its output, which has `dims` dimensions."""
        scale, shift = (value.reshape(-1, *[1] * (dims - 2)) for value in (scale, shift))
        if inner.bias is not None:  # of the last axis, or of a convolution's channels
            channels = inner.bias if isinstance(inner, DenseMap) else inner.bias.reshape(-1, *[1] * (dims - 1))
            shift = torch.addcmul(shift, channels, scale)
        return cls(inner, scale.relu(), (-scale).relu(), shift)

    @property
    def weight(self) -> Tensor:
        return torch.stack([self.inner.weight, -self.inner.weight])

    @property
    def unscaled(self) -> LinearMap:
        return self.inner

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        up, down = weight.unbind()
        y = self.up * self.inner.apply(x, up, None) + self.down * self.inner.apply(x, down, None)
        return y if bias is None else y + bias

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        up, down = weight.unbind()
        return self.inner.transpose(self.up * y, up, x) + self.inner.transpose(self.down * y, down, x)


def linear_map(weight: Tensor, bias: Tensor | None = None) -> DenseMap:
    """Return the linear map of a linear layer."""
    return DenseMap(weight, bias)


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
