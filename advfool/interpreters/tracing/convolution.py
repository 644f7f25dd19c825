"""The transpose of a convolution."""

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
    """The transpose of a convolution (its gradient for the input), for an input of this `size`."""
    if max(weight.shape[2:]) == 1 and max(stride) > 1 and not any(padding):
        # torch's own is many times slower than what it comes to: a convolution without strides, spread out.
        ones = [1] * len(stride)
        small = TRANSPOSED[weight.dim() - 3](y, weight, None, ones, padding, 0, groups)
        spread = small.new_zeros(*small.shape[:2], *size)
        spread[(..., *(slice(None, None, s) for s in stride))] = small
        return spread
    sizes = zip(size, weight.shape[2:], stride, padding, dilation, strict=True)
    missing = [(n + 2 * p - d * (k - 1) - 1) % s for n, k, s, p, d in sizes]
    return TRANSPOSED[weight.dim() - 3](y, weight, None, stride, padding, missing, groups, dilation)
