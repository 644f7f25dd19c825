"""Which classes a network has, and which it puts first."""

from jaxtyping import Float, Int
from torch import Tensor

from advfool.utilities.errors import AdvfoolError


def top_classes(logits: Float[Tensor, "n c"], k: int) -> Int[Tensor, "n k"]:
    """The k most probable classes of each image (all where there are fewer), the first one first; ties by index.

    The same order everywhere, unlike torch's `topk`, whose order of ties is anyone's: the first is the `argmax`.

    >>> import torch
    >>> top_classes(torch.tensor([[0.0, 2.0, 1.0, 2.0]]), 3)
    tensor([[1, 3, 2]])
    """
    return logits.argsort(dim=1, descending=True, stable=True)[:, :k]


def check_targets(targets: Int[Tensor, "*n"], classes: int) -> None:
    """Raises an AdvfoolError where a target is not the number of one of so many classes."""
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        wrong = targets[(targets < 0) | (targets >= classes)].flatten()[0].item()
        raise AdvfoolError(
            f"Expected targets from 0 to {classes - 1} (the network has {classes} outputs), got {wrong}."
        )
