"""The agreement of a heatmap with the box of the object."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from advfool.metrics.facts import metric
from advfool.utilities.checking import checked
from advfool.utilities.heatmaps import box_mask, is_degenerate, resize
from advfool.utilities.kinds import Side


@metric(needs=("box",), direction="higher", range=(0, 1))
@checked
def points_into(
    heatmap: Float[Tensor, "n h w"], box: Float[Tensor, "n *boxes 4"], size: tuple[Side, Side]
) -> Float[Tensor, "n"]:
    """Test whether the maximum of each heatmap, resized to the image, lies in the box of the object.

    Args:
        heatmap: one for each image.
        box: (top, left, bottom, right) in pixels of the image, one or several; -1 where it is unknown.
        size: height and width of the image in pixels.

    Returns:
        1 for each map whose maximum lies in a box, 0 for others and for degenerate maps, NaN where the box is unknown.

    Source: the pointing game of Zhang et al. 2018 (Excitation Backprop), without its tolerance margin.
    """
    inside = box_mask(box, *size).flatten(1)
    peak = resize(heatmap.float(), size).flatten(1).argmax(dim=1)
    hit = inside.gather(1, peak[:, None])[:, 0] & ~is_degenerate(heatmap)
    return hit.float().where(_known(box), torch.nan)


@metric(needs=("box",), direction="higher", range=(0, 1))
@checked
def mass_inside(
    heatmap: Float[Tensor, "n h w"], box: Float[Tensor, "n *boxes 4"], size: tuple[Side, Side]
) -> Float[Tensor, "n"]:
    """Compute the share of the positive relevance of each heatmap, resized to the image, that lies in the box.

    Args:
        heatmap: one for each image.
        box: (top, left, bottom, right) in pixels of the image, one or several; -1 where it is unknown.
        size: height and width of the image in pixels.

    Returns:
        A value from 0 to 1 for each image, NaN for maps without positive relevance and where the box is unknown.

    Source: relevance mass accuracy of Arras et al. 2022 (CLEVR-XAI).
    """
    positive = resize(heatmap.float().relu(), size)
    inside = (positive * box_mask(box, *size)).sum(dim=(1, 2))
    return (inside / positive.sum(dim=(1, 2))).where(_known(box), torch.nan)


def _known(box: Float[Tensor, "n *boxes 4"]) -> Bool[Tensor, "n"]:
    return (box >= 0).flatten(1).all(dim=1)
