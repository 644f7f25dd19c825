"""Tells of each explained image whether it is deceived and misdirected, from what was measured on it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advfool.data.samples import Sample
from advfool.evaluation.paired import NETWORKS, PAIR
from advfool.evaluation.rows import Table, one_column_each
from advfool.metrics import functional as metrics
from advfool.utilities.heatmaps import box_mask


def deception_columns(
    row: Table,
    targets: Int[Tensor, "n *two"],
    interpreters: Sequence[str],
    interval: Sequence[float],
    shares: Float[Tensor, "n *two"],
) -> Table:
    """Make the columns `deceived/INTERPRETER` and `misdirected/INTERPRETER`; NaN where an image does not count.

    Args:
        row: the other columns: predictions and test losses; `faithful` and `pointing` and `mass` where measured.
        targets: the explained class of each image, or both classes of each composite.
        interpreters: their names.
        interval: lowest and highest test loss of a fooled image.
        shares: the share of the image that the object's box covers.
    """
    predictions = [row[f"prediction/{name}"] for name in NETWORKS]
    explained = metrics.predicts(predictions[0], targets)
    same = (predictions[0] == predictions[1]).view(-1, *[1] * (targets.dim() - 1))
    kept = same.expand_as(explained)

    def column(*parts: str) -> Tensor | None:
        names = ["/".join(parts)] if targets.dim() == 1 else ["/".join([*parts, which]) for which in PAIR]
        found = [row[name] for name in names if name in row]
        if not found:
            return None
        return found[0] if targets.dim() == 1 else torch.stack(found, dim=1)

    columns: Table = {}
    for interp in interpreters:
        loss = column("test_loss", interp, "manipulated")
        assert loss is not None
        before, after = (column("faithful", interp, name) for name in NETWORKS)
        if before is not None and after is not None:
            found = metrics.deceived(loss, interval, kept, explained, before == 1, after == 1)
            columns[f"deceived/{interp}"] = found.where(~before.isnan(), torch.nan)
        pointing, left = (column("pointing", interp, name) for name in NETWORKS)
        mass = column("mass", interp, "manipulated")
        if pointing is not None and left is not None and mass is not None:
            found = metrics.misdirected(loss, interval, kept, explained, pointing, left, mass, shares)
            columns[f"misdirected/{interp}"] = found
    return one_column_each(columns)


def box_shares(batch: Sample) -> Float[Tensor, "n *two"]:
    """Return the share of the image that the object's box covers; of a composite, that of each class's boxes."""
    composites = batch.label.dim() == 2
    boxes = batch.box.flatten(0, 1) if composites else batch.box
    shares = box_mask(boxes, batch.image.shape[-2], batch.image.shape[-1]).float().mean(dim=(1, 2))
    return shares.view(batch.label.shape)
