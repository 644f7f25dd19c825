"""The share of images that are fooled."""

from jaxtyping import Bool, Float
from torch import Tensor

from advfool.utilities.checking import checked
from advfool.utilities.kinds import Interval


@checked
def is_fooled(test_loss: Float[Tensor, "*n"], interval: Interval) -> Bool[Tensor, "*n"]:
    """Test which images are fooled.

    Args:
        test_loss: that of the fooling; NaN (for a degenerate map) is never fooled.
        interval: lowest and highest test loss of a fooled image, both included.
    """
    low, high = interval
    return (test_loss >= low) & (test_loss <= high)


@checked
def fooling_success_rate(test_loss: Float[Tensor, "*n"], interval: Interval) -> Float[Tensor, ""]:
    """Compute the fooling success rate (FSR): the share of images whose test loss lies in the interval.

    Args:
        test_loss: that of the fooling; images with NaN (degenerate maps) count as not fooled.
        interval: lowest and highest test loss of a fooled image, both included.

    Returns:
        A fraction from 0 to 1.

    Source: Heo et al. 2019, eq. 6.

    >>> import torch
    >>> from advfool.metrics import fooling_success_rate
    >>> fooling_success_rate(torch.tensor([0.1, 0.3, torch.nan, 0.2]), (0.0, 0.2))
    tensor(0.5000)
    """
    return is_fooled(test_loss, interval).float().mean()
