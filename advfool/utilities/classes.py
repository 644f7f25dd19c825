"""Find the most probable classes of a network's logits and read target classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from advfool.utilities.errors import AdvfoolError

Targets = Tensor | np.ndarray | Sequence[Any] | int  # one class for all images, one for each, or one-hot rows


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


def with_another_class(targets: Int[Tensor, "n"], logits: Float[Tensor, "n c"]) -> Int[Tensor, "n 2"]:
    """Return each target class with another class: the most probable one that is not the target.

    Args:
        targets: a class for each image.
        logits: the network's output, for at least two classes.

    Raises:
        AdvfoolError: there is only one class.

    >>> import torch
    >>> with_another_class(torch.tensor([1, 0]), torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0]]))
    tensor([[1, 2],
            [0, 1]])
    """
    if logits.shape[1] < 2:
        raise AdvfoolError("Expected a network of at least two classes, to take the heatmap of another one, got 1.")
    first, second = top_classes(logits, 2).to(targets.device).unbind(dim=1)
    return torch.stack([targets, torch.where(first == targets, second, first)], dim=1)


def read_targets(targets: Targets, images: int, classes: int, device: torch.device) -> Int[Tensor, "n"]:
    """Return the target class of each image.

    Args:
        targets: the target classes: one for all images, or one for each, as a tensor, array or list of whole numbers,
            also of the form (n, 1); or one-hot rows (n, classes).
        images: n, the number of images.
        classes: number of classes of the network.
        device: where the result lies.

    Raises:
        AdvfoolError: the number of targets is not that of the images, or one is not a class.
    """
    try:
        with torch.inference_mode(False):  # gradients can be taken with this copy
            given = torch.as_tensor(targets).clone().to(device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AdvfoolError(f"Expected targets as whole numbers, one for each image or one for all: {error}") from error
    if given.dim() == 2 and given.shape == (images, classes) and classes > 1:
        given = _from_one_hot(given)
    elif given.dim() == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.dtype == torch.bool or given.is_floating_point() or given.is_complex():
        raise AdvfoolError(
            f"Expected targets as whole numbers (class indices) or one-hot rows (n, {classes}), got {given.dtype}."
        )
    if given.dim() > 1:
        raise AdvfoolError(
            f"Expected a target for each of {images} images, or one for all, got the form {tuple(given.shape)}."
        )
    if given.dim() and len(given) != images:
        raise AdvfoolError(f"Expected a target for each of {images} images, or one for all, got {len(given)}.")
    given = given.long()
    check_targets(given, classes)
    return given.expand(images)


def _from_one_hot(rows: Tensor) -> Int[Tensor, "n"]:
    if not bool((((rows == 0) | (rows == 1)).all(dim=1) & (rows.sum(dim=1) == 1)).all()):
        raise AdvfoolError(
            "Expected one-hot targets (a single 1 in each row, otherwise 0), got other rows. Give one class index for "
            "each image."
        )
    return rows.long().argmax(dim=1)


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
