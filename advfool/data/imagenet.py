"""The 1,000 classes of ImageNet, in the order of the outputs of networks that are pretrained on it."""

from functools import cache
from importlib.resources import files


@cache
def wnids() -> tuple[str, ...]:
    """Return the WordNet identifier of each class, e.g. n01440764."""
    return tuple(files("advfool.data").joinpath("imagenet_wnids.txt").read_text().split())


@cache
def words() -> tuple[str, ...]:
    """Return the English name of each class, e.g. tench."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)
