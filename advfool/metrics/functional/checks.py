"""Checks of heatmaps before they are measured."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from advfool.utilities.errors import AdvfoolError

_NAMED = 8  # images that a message lists


class BadMaps(AdvfoolError, ValueError):
    """Report heatmaps that cannot be measured; the message names the images."""


def check_pair(metric: str, a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> None:
    """Check that two stacks of heatmaps can be compared.

    Args:
        metric: name for the message.
        a: heatmaps.
        b: other heatmaps.

    Raises:
        BadMaps: they have different shapes, or a map has NaN.
    """
    if a.shape != b.shape:
        raise BadMaps(
            f"{metric} compares heatmaps of the same shape, got {tuple(a.shape)} and {tuple(b.shape)}. "
            "Make one as large as the other with advfool.utilities.heatmaps.resize."
        )
    for which, maps in (("first", a), ("second", b)):
        refuse(metric, f"the {which} heatmaps", "NaN", maps.flatten(1).amax(dim=1).isnan())


def refuse(
    metric: str,
    which: str,
    what: str,
    bad: Bool[Tensor, "n"],
    names: Sequence[int] | None = None,
    of: str = "heatmaps",
) -> None:
    """Refuse heatmaps if any of them is bad.

    Args:
        metric: name for the message.
        which: what the message calls the heatmaps.
        what: what makes a heatmap bad.
        bad: whether each heatmap is bad.
        names: what the message calls the images; None for their positions from 0.
        of: what is refused, `heatmaps` or `images`.

    Raises:
        BadMaps: a heatmap is bad.
    """
    if not bad.any():
        return
    found = bad.nonzero()[:, 0].tolist()
    found = found if names is None else [names[place] for place in found]
    rest = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    raise BadMaps(
        f"{metric} needs {of} without {what}, got {what} in {which} of "
        f"image{'s' if len(found) > 1 else ''} {', '.join(map(str, found[:_NAMED]))}{rest}. "
        "Leave these images out, or look for NaN in the network's weights and output."
    )
