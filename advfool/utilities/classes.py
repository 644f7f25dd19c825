"""Find the most probable classes of a network's logits and check target classes."""

from jaxtyping import Float, Int
from torch import Tensor

from advfool.utilities.errors import AdvfoolError


def top_classes(logits: Float[Tensor, "n c"], k: int) -> Int[Tensor, "n k"]:
    """Return the k most probable classes of each image, most probable first.

    Ties are ordered by index, so that the first class is the `argmax`; torch's `topk` breaks ties arbitrarily.

    Args:
        logits: the network's output.
        k: number of classes; all are returned where there are fewer.

    >>> import torch
    >>> top_classes(torch.tensor([[0.0, 2.0, 1.0, 2.0]]), 3)
    tensor([[1, 3, 2]])
    """
    return logits.argsort(dim=1, descending=True, stable=True)[:, :k]


def check_targets(targets: Int[Tensor, "*n"], classes: int) -> None:
    """Check that all targets are classes of the network.

    Args:
        targets: class indices.
        classes: number of classes.

    Raises:
        AdvfoolError: a target is negative, or not below `classes`.
    """
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        wrong = targets[(targets < 0) | (targets >= classes)].flatten()[0].item()
        raise AdvfoolError(
            f"Expected targets from 0 to {classes - 1} (the network has {classes} outputs), got {wrong}."
        )
