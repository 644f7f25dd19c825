"""Represent a product with a constant (matmul, einsum) as a linear map."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from advfool.interpreters.lrp.linear import LinearMap


@dataclass(frozen=True)
class ContractionMap(LinearMap):
    """Represent an operation that is linear in its input and in one constant, its weights.

    Args:
        own_weight: the constant.
        call: computes the operation for an input and a constant.
    """

    own_weight: Tensor
    call: Callable[[Tensor, Tensor], Tensor]
    bias: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        return self.own_weight

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = self.call(x, weight)
        return y if bias is None else y + bias

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            inside = torch.zeros_like(x, requires_grad=True)
            found = self.call(inside, weight)
        return torch.autograd.grad(found, inside, y.to(found.dtype), create_graph=create_graph)[0]
