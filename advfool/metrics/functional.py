"""Metrics as pure functions of values per image."""

from jaxtyping import Bool, Float, Int
from torch import Tensor


def is_fooled(test_loss: Float[Tensor, "*n"], interval: tuple[float, float]) -> Bool[Tensor, "*n"]:
    """Which test losses lie in the closed interval; NaN (a degenerate map) never does."""
    low, high = interval
    return (test_loss >= low) & (test_loss <= high)


def fooling_success_rate(test_loss: Float[Tensor, "*n"], interval: tuple[float, float]) -> Float[Tensor, ""]:
    """FSR: the share of images whose test loss lies in the interval, as a fraction; NaN stays in the denominator.

    Source: Heo et al. 2019, eq. 6.

    >>> import torch
    >>> from advfool.metrics import fooling_success_rate
    >>> fooling_success_rate(torch.tensor([0.1, 0.3, torch.nan, 0.2]), (0.0, 0.2))
    tensor(0.5000)
    """
    return is_fooled(test_loss, interval).float().mean()


def top_k_correct(logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"], k: int) -> Bool[Tensor, "n"]:
    """Whether the label is among the k largest logits (all of them where there are fewer classes)."""
    top = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (top == labels[:, None]).any(dim=1)


def paired_interval(
    before: Float[Tensor, "n"], after: Float[Tensor, "n"], z: float = 1.96
) -> tuple[float, tuple[float, float] | None]:
    """Mean of `before - after` over the same images, and its 95 % normal interval (None for a single image)."""
    difference = before.double() - after.double()
    mean = difference.mean().item()
    if len(difference) < 2:
        return mean, None
    margin = z * difference.std(unbiased=True).item() / len(difference) ** 0.5
    return mean, (mean - margin, mean + margin)
