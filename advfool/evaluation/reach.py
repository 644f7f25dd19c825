"""What Location could reach by moving relevance alone, and how much relevance lies where it shall go."""

from collections.abc import Iterator, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from advfool.evaluation.paired import NETWORKS
from advfool.evaluation.rows import Table
from advfool.foolings import Location
from advfool.foolings.base import Fooling, rectified
from advfool.metrics.functional import is_fooled, mass_on_region, rearranged_loss

AREA = "area"  # the region's share of the map, which is the share of mass that means nothing
OUT_OF_REACH = "out of reach by moving relevance alone"
Place = tuple[str, ...]  # of a rate in metrics.json


def reach_columns(interp: str, fooling: Fooling, maps: Mapping[str, Float[Tensor, "n *two h w"]]) -> Table:
    """Make the columns of an interpreter's heatmaps; none where the fooling is not Location.

    Args:
        interp: the interpreter's name.
        fooling: what the maps are measured for.
        maps: the heatmaps by network.
    """
    if not isinstance(fooling, Location):
        return {}
    original = maps["original"]
    region = fooling.target(original.shape[-2], original.shape[-1]).to(original)
    columns = {f"rearranged_loss/{interp}": rearranged_loss(rectified(original), region)}
    columns |= {f"frame_mass/{interp}/{name}": mass_on_region(maps[name], region) for name in NETWORKS}
    return columns | {f"frame_mass/{interp}/{AREA}": region.mean().expand(len(original))}


def reach_rates(explained: Table, interps: Sequence[str], interval: Sequence[float]) -> Iterator[tuple[Place, Tensor]]:
    """Yield the columns of `reach_columns` with their places in metrics.json.

    Args:
        explained: a row for each measured image.
        interps: names of the interpreters.
        interval: test losses that count as fooled.
    """
    for interp in interps:
        if f"rearranged_loss/{interp}" in explained:
            reached = is_fooled(explained[f"rearranged_loss/{interp}"], interval)
            yield ("fsr_rearranged", interp), reached.float()
            for part in (*NETWORKS, AREA):
                yield ("frame_mass", interp, part), explained[f"frame_mass/{interp}/{part}"]
