"""What a heatmap says about the box of an object."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from advfool.utilities.heatmaps import box_mask, is_degenerate, resize


def points_into(
    heatmap: Float[Tensor, "n h w"], box: Float[Tensor, "n *boxes 4"], size: tuple[int, int]
) -> Float[Tensor, "n"]:
    """1 where the map's maximum, at the image's size, lies in the box, else 0; degenerate maps point nowhere (0).

    NaN where no box is known (-1).

    Source: the pointing game of Zhang et al. 2018 (Excitation Backprop), without its tolerance margin.
    """
    inside = box_mask(box, *size).flatten(1)
    peak = resize(heatmap.float(), size).flatten(1).argmax(dim=1)
    hit = inside.gather(1, peak[:, None])[:, 0] & ~is_degenerate(heatmap)
    return hit.float().where(_known(box), torch.nan)


def mass_inside(
    heatmap: Float[Tensor, "n h w"], box: Float[Tensor, "n *boxes 4"], size: tuple[int, int]
) -> Float[Tensor, "n"]:
    """Share of the positive relevance, at the image's size, that lies in the box.

    NaN for maps without any, and where no box is known (-1).

    Source: relevance mass accuracy of Arras et al. 2022 (CLEVR-XAI).
    """
    positive = resize(heatmap.float().relu(), size)
    inside = (positive * box_mask(box, *size)).sum(dim=(1, 2))
    return (inside / positive.sum(dim=(1, 2))).where(_known(box), torch.nan)


def _known(box: Float[Tensor, "n *boxes 4"]) -> Bool[Tensor, "n"]:
    return (box >= 0).flatten(1).all(dim=1)
