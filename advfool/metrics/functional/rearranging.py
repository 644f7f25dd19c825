"""What a heatmap could show if its values moved: the loss of the best rearrangement, and the mass on a region."""

import torch
from jaxtyping import Float
from torch import Tensor

from advfool.utilities.heatmaps import is_degenerate


def rearranged_loss(heatmap: Float[Tensor, "n h w"], region: Float[Tensor, "h w"]) -> Float[Tensor, "n"]:
    """Compute the least `mean_j (h_j - m_j)^2` that any rearrangement of each map's values has with a region.

    The largest values lie on the region then, by the rearrangement inequality, so sorting both finds it. A fooling that
    only moves relevance, and keeps the values, can reach no lower test loss.

    Args:
        heatmap: one for each image.
        region: 1 on the region that the relevance shall go to and 0 elsewhere.

    Returns:
        A value for each image, NaN for degenerate maps.

    Source: Hardy, Littlewood and Polya 1934, Theorem 368.

    >>> rearranged_loss(torch.tensor([[[1.0, 0.0], [0.0, 0.5]]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    tensor([0.0625])
    """
    values = heatmap.flatten(1).sort(dim=1).values
    loss = (values - region.flatten().sort().values.to(values)).square().mean(dim=1)
    return torch.where(is_degenerate(heatmap), torch.nan, loss)


def mass_on_region(heatmap: Float[Tensor, "n h w"], region: Float[Tensor, "h w"]) -> Float[Tensor, "n"]:
    """Compute the share of the positive relevance of each heatmap that lies on a region of the map.

    A map whose relevance is spread evenly has the region's share of the area, `region.mean()`.

    Args:
        heatmap: one for each image.
        region: 1 on the region and 0 elsewhere; a position that is partly covered counts partly.

    Returns:
        A value from 0 to 1 for each image, NaN for maps without positive or with non-finite relevance.

    Source: relevance mass accuracy of Arras et al. 2022 (CLEVR-XAI), with a region of the map as the ground truth.

    >>> mass_on_region(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    tensor([0.7500])
    """
    positive = heatmap.relu()
    share = (positive * region.to(positive)).sum(dim=(1, 2)) / positive.sum(dim=(1, 2))
    return torch.where(heatmap.flatten(1).isfinite().all(dim=1), share, torch.nan)
