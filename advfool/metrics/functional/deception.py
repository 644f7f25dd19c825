"""Whether a manipulated map deceives: the prediction stays, the map is fooled, and it no longer tells the truth."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from advfool.metrics.functional.rates import is_fooled
from advfool.utilities.checking import checked
from advfool.utilities.kinds import Interval


@checked
def deceived(
    test_loss: Float[Tensor, "*n"],
    interval: Interval,
    kept: Bool[Tensor, "*n"],
    explained: Bool[Tensor, "*n"],
    faithful_before: Bool[Tensor, "*n"],
    faithful_after: Bool[Tensor, "*n"],
) -> Float[Tensor, "*n"]:
    """Tell of each image with an honest explanation to lose whether that was lost.

    An image has one when the explained class is what the original network predicts and the original heatmap is
    faithful to the original network. It is deceived when the manipulated network predicts the same class, the
    fooling's test loss says fooled, and the manipulated heatmap is not faithful to the manipulated network.

    Args:
        test_loss: of the fooling, for the manipulated heatmap; NaN for a degenerate one, which deceives nobody.
        interval: lowest and highest test loss of a fooled image, both included.
        kept: whether both networks predict the same class.
        explained: whether the explained class is what the original network predicts.
        faithful_before: whether the original heatmap is faithful to the original network, see `faithfulness`.
        faithful_after: the same of the manipulated heatmap and network.

    Returns:
        1 for deceived images, 0 for others, NaN for those without an honest explanation to lose.
    """
    lies = is_fooled(test_loss, interval) & kept & ~faithful_after
    return lies.float().where(explained & faithful_before, torch.nan)


@checked
def deceptive_rate(
    test_loss: Float[Tensor, "*n"],
    interval: Interval,
    kept: Bool[Tensor, "*n"],
    explained: Bool[Tensor, "*n"],
    faithful_before: Bool[Tensor, "*n"],
    faithful_after: Bool[Tensor, "*n"],
) -> Float[Tensor, ""]:
    """Compute the deceptive rate: the deceived share of the images that have an honest explanation to lose.

    The fooling success rate says that a map left its old state; the deceptive rate says that it tells an untruth.

    Args:
        test_loss: as in `deceived`, and so are the other arguments.
        interval: lowest and highest test loss of a fooled image.
        kept: whether both networks predict the same class.
        explained: whether the explained class is what the original network predicts.
        faithful_before: whether the original heatmap is faithful.
        faithful_after: whether the manipulated heatmap is faithful.

    Returns:
        A fraction from 0 to 1; NaN where no image has an honest explanation.

    >>> yes = torch.tensor([True, True, True, True])
    >>> before, after = torch.tensor([True, True, True, False]), torch.tensor([False, True, False, False])
    >>> deceptive_rate(torch.tensor([0.1, 0.1, 0.9, 0.1]), (0, 0.2), yes, yes, before, after)
    tensor(0.3333)
    """
    return deceived(test_loss, interval, kept, explained, faithful_before, faithful_after).nanmean()


@checked
def misdirected(
    test_loss: Float[Tensor, "*n"],
    interval: Interval,
    kept: Bool[Tensor, "*n"],
    explained: Bool[Tensor, "*n"],
    pointing_before: Float[Tensor, "*n"],
    pointing_after: Float[Tensor, "*n"],
    mass_after: Float[Tensor, "*n"],
    share: Float[Tensor, "*n"],
) -> Float[Tensor, "*n"]:
    """Tell of each image whose original heatmap points at the object whether the manipulated one points away.

    The images are those with a known box whose explained class is what the original network predicts and whose
    original heatmap has its maximum in the box. One is misdirected when the prediction is kept, the test loss says
    fooled, the maximum left the box, and the relevance in the box is at most the box's share of the image.

    Args:
        test_loss: of the fooling, for the manipulated heatmap.
        interval: lowest and highest test loss of a fooled image, both included.
        kept: whether both networks predict the same class.
        explained: whether the explained class is what the original network predicts.
        pointing_before: whether the original heatmap points into the box (`points_into`); NaN without a box.
        pointing_after: the same of the manipulated heatmap.
        mass_after: share of the manipulated heatmap's relevance in the box (`mass_inside`).
        share: the box's share of the image's area.

    Returns:
        1 for misdirected images, 0 for others, NaN for those that do not count.
    """
    away = (pointing_after == 0) & (mass_after <= share)
    lies = is_fooled(test_loss, interval) & kept & away
    return lies.float().where(explained & (pointing_before == 1), torch.nan)


def predicts(prediction: Int[Tensor, "n"], classes: Int[Tensor, "n *two"]) -> Bool[Tensor, "n *two"]:
    """Tell for each explained class whether it is what a network predicts for the image."""
    return prediction.view(-1, *[1] * (classes.dim() - 1)) == classes
