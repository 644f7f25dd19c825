"""How many images are fooled."""

from jaxtyping import Bool, Float
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
