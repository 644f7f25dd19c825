"""ImageNet's 1,000 classes, in the order of every published network's outputs."""

from functools import cache
from importlib.resources import files


@cache
def wnids() -> tuple[str, ...]:
    """The WordNet identifiers, e.g. n01440764, by class index."""
    return tuple(files("advfool.data").joinpath("imagenet_wnids.txt").read_text().split())


@cache
def words() -> tuple[str, ...]:
    """The English names, e.g. tench, by class index."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)
