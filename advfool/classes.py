"""Which classes a network puts first."""

from jaxtyping import Float, Int
from torch import Tensor


def top_classes(logits: Float[Tensor, "n c"], k: int) -> Int[Tensor, "n k"]:
    """The k most probable classes of each image (all where there are fewer), the first one first; ties by index.

    The same order everywhere, unlike torch's `topk`, whose order of ties is anyone's: the first is the `argmax`.

    >>> import torch
    >>> top_classes(torch.tensor([[0.0, 2.0, 1.0, 2.0]]), 3)
    tensor([[1, 3, 2]])
    """
    return logits.argsort(dim=1, descending=True, stable=True)[:, :k]
