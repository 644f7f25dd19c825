"""Compute the transpose of a convolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def transposed_convolution(
    y: Tensor,
    weight: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Apply the transpose of a convolution, which is its gradient with respect to the input.

    Args:
        y: a tensor of the shape of the convolution's output.
        weight: the convolution's weights.
        size: height and width (or as many sizes as there are dimensions) of the convolution's input.
        stride: the convolution's stride in each dimension.
        padding: the convolution's zero padding in each dimension.
        dilation: the convolution's dilation in each dimension.
        groups: the convolution's number of groups.
    """
    if max(weight.shape[2:]) == 1 and max(stride) > 1 and not any(padding):
        # An equivalent form: torch's own strided transpose of a 1x1 convolution is many times slower.
        ones = [1] * len(stride)
        small = TRANSPOSED[weight.dim() - 3](y, weight, None, ones, padding, 0, groups)
        spread = small.new_zeros(*small.shape[:2], *size)
        spread[(..., *(slice(None, None, s) for s in stride))] = small
        return spread
    sizes = zip(size, weight.shape[2:], stride, padding, dilation, strict=True)
    missing = [(n + 2 * p - d * (k - 1) - 1) % s for n, k, s, p, d in sizes]
    return TRANSPOSED[weight.dim() - 3](y, weight, None, stride, padding, missing, groups, dilation)
