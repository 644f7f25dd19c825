"""What a fooling is: a penalty to train with, a test loss to measure with, and when that counts as fooled."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import is_degenerate, normalise

OriginalMaps = Float[Tensor, "..."] | None  # of the heatmaps' shape; another one raises an AdvfoolError, in tests, too


@dataclass(frozen=True, kw_only=True)
class Fooling(ABC):
    """Abstract: one value per image for training (`penalty`) and one for measuring (`test_loss`).

    An image is fooled when its test loss lies in `interval`, both ends included. Degenerate maps (constant, all
    zero) have the test loss NaN, so they are never fooled. `original` are the original network's heatmaps, for
    the foolings that compare with them (`needs_original`). `name` is what tables call it.

    A passive fooling is given the map of each image's target class, (n, h, w). One that `needs_composites` is given
    the maps of two classes for each composite image, (n, 2, h, w), and its test loss is (n, 2).
    """

    name: str = ""
    interval: Sequence[float]

    needs_original: ClassVar[bool] = False
    needs_composites: ClassVar[bool] = False

    def __post_init__(self) -> None:
        interval = numbers(self.interval)
        if interval is None or len(interval) != 2 or not interval[0] <= interval[1]:
            raise AdvfoolError(f"fooling.interval must be [lowest, highest] test loss, got {self.interval}.")
        object.__setattr__(self, "interval", interval)

    @abstractmethod
    def penalty(
        self, heatmaps: Float[Tensor, "n *two h w"], original: Float[Tensor, "n *two h w"] | None = None
    ) -> Float[Tensor, "n"]:
        """The training loss of each image; finite for degenerate maps."""

    @abstractmethod
    def test_loss(
        self, heatmaps: Float[Tensor, "n *two h w"], original: Float[Tensor, "n *two h w"] | None = None
    ) -> Float[Tensor, "n *two"]:
        """The test loss of each image, NaN for degenerate maps; carries no gradient."""


@dataclass(frozen=True, kw_only=True)
class PassiveFooling(Fooling):
    """Abstract: the test loss is a distance of non-negative maps; signed ones are rectified and normalised first."""

    def test_loss(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        originals = _rectified(checked_original(heatmaps, original)) if self.needs_original else None
        maps = _rectified(heatmaps.detach())
        unusable = is_degenerate(maps)
        if originals is not None:
            unusable = unusable | is_degenerate(originals)
        return torch.where(unusable, torch.nan, self._distance(maps, originals))

    @abstractmethod
    def _distance(
        self, heatmaps: Float[Tensor, "n h w"], original: Float[Tensor, "n h w"] | None
    ) -> Float[Tensor, "n"]:
        """The test loss of non-negative maps."""


def checked_original(heatmaps: Float[Tensor, "n *two h w"], original: OriginalMaps) -> Float[Tensor, "..."]:
    """The original network's heatmaps without their gradient.

    Raises:
        AdvfoolError: there are none, or they do not have the heatmaps' shape.
    """
    if original is None or original.shape != heatmaps.shape:
        raise AdvfoolError(
            f"This fooling compares with the original network's heatmaps: expected maps of shape "
            f"{tuple(heatmaps.shape)}, got {None if original is None else tuple(original.shape)}."
        )
    return original.detach()


def numbers(values: object) -> tuple[float, ...] | None:
    """A list of numbers as a tuple, or None where it is something else."""
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None


def _rectified(heatmaps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    signed = heatmaps.amin(dim=(1, 2), keepdim=True) < 0
    return torch.where(signed, normalise(heatmaps.relu()), heatmaps)
