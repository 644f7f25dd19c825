"""The abstract foolings: a penalty for training, a test loss for measuring, and the interval that counts as fooled."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advfool.utilities.checking import Checked, check_fields
from advfool.utilities.classes import with_another_class
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import is_degenerate, normalise
from advfool.utilities.kinds import Count, Interval, Seed, SomeClass

# The original network's heatmaps. Their shape is that of the manipulated network's: `checked_original` checks it.
OriginalMaps = Float[Tensor, "..."] | None
Norm = Literal[1, 2]  # exponent of a norm


@dataclass(frozen=True, kw_only=True)
class Fooling(Checked, ABC):
    """Define what heatmaps are trained to show, by one value per image for training and one for measuring (abstract).

    An image is fooled when its test loss lies in `interval`. Degenerate maps (constant or all zero) have the test loss
    NaN, so they are never fooled.

    A passive fooling is given the heatmap of each image's target class, (n, h, w). A `CompositeFooling` is given the
    heatmaps of two classes for each composite image, (n, 2, h, w), and its test loss is (n, 2).

    Attributes:
        needs_original: whether penalty and test loss need the original network's heatmaps.
        possible: lowest and highest test loss that there can be.

    Args:
        name: what tables call the fooling.
        interval: (lowest, highest) test loss of a fooled image, both included.

    Raises:
        AdvfoolError: a value is out of range; the interval is not two numbers in ascending order.
    """

    name: str = ""
    interval: Interval

    needs_original: ClassVar[bool] = False
    possible: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    @property
    def needs_another_class(self) -> bool:
        """Tell whether `original` is (n, 2, h, w): the maps of the explained class and those of another class."""
        return False

    def compared_classes(
        self, targets: Int[Tensor, "n *two"], logits: Float[Tensor, "n c"] | None
    ) -> Int[Tensor, "n *_two"]:
        """Choose the classes whose maps by the original network `penalty` and `test_loss` are given.

        Args:
            targets: the explained classes.
            logits: of the original network.

        Returns:
            the explained classes; (n, 2), with another class in the second column, where the fooling needs its maps.
        """
        if not self.needs_another_class:
            return targets
        assert logits is not None
        return with_another_class(targets, logits)

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "interval", tuple(float(loss) for loss in self.interval))
        lowest, highest = self.possible
        if self.interval[1] < lowest or self.interval[0] > highest:
            raise AdvfoolError(
                f"interval must have test losses that are possible, from {lowest:g} to {highest:g}, got "
                f"{list(self.interval)}: no image would count as fooled."
            )

    @abstractmethod
    def penalty(self, heatmaps: Float[Tensor, "n *two h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        """Compute the training loss of each image, which is finite for degenerate maps, too.

        Args:
            heatmaps: of the manipulated network.
            original: heatmaps of the original network for the same images, of the same shape.

        Raises:
            AdvfoolError: the fooling needs the original network's heatmaps, and they are missing or of another shape.
        """

    @abstractmethod
    def test_loss(
        self, heatmaps: Float[Tensor, "n *two h w"], original: OriginalMaps = None
    ) -> Float[Tensor, "n *two"]:
        """Compute the test loss of each image, without gradient; it is NaN for degenerate maps.

        Args:
            heatmaps: of the manipulated network.
            original: heatmaps of the original network for the same images, of the same shape.

        Raises:
            AdvfoolError: the fooling needs the original network's heatmaps, and they are missing or of another shape.
        """


@dataclass(frozen=True, kw_only=True)
class PassiveFooling(Fooling):
    """Define a fooling of the heatmap of each image's target class (abstract).

    The test loss is a distance of non-negative maps. Signed maps are rectified and normalised before.
    """

    def test_loss(self, heatmaps: Float[Tensor, "n h w"], original: OriginalMaps = None) -> Float[Tensor, "n"]:
        originals = rectified(checked_original(heatmaps, original)) if self.needs_original else None
        maps = rectified(heatmaps.detach())
        unusable = is_degenerate(maps)
        if originals is not None:
            unusable = unusable | is_degenerate(originals)
        return torch.where(unusable, torch.nan, self._distance(maps, originals))

    @abstractmethod
    def _distance(
        self, heatmaps: Float[Tensor, "n h w"], original: Float[Tensor, "n h w"] | None
    ) -> Float[Tensor, "n"]:
        """Compute the test loss of non-negative maps."""


@dataclass(frozen=True)
class CompositeFooling(Fooling):
    """Define a fooling of the heatmaps of two classes, trained and measured on composite images (abstract).

    A composite is a 2x2 grid of two images of c1 and two of c2 in random places. Heatmaps and test loss have the class
    in their second dimension, c1 first.

    Args:
        c1: the first class, by index or name; None to take that of the data.
        c2: the second class, by index or name; None to take that of the data.
        train: number of composites for training.
        test: number of composites for the test, and of those for the selection; they share no image with the others.
        fresh: whether training composites are drawn anew each time.
        gated: whether only those training composites are used on which the original heatmaps of both classes point
            into their own tiles: on the others a swap means nothing.
        batch_size: composites that join each batch of ordinary images, on which the classification is preserved.
        seed: decides the images and places of the composites.

    Raises:
        AdvfoolError: `train`, `test` or `batch_size` is below 1, the interval is not two numbers in ascending order, or
            composites that are drawn anew each time shall be gated.
    """

    c1: SomeClass | None = None
    c2: SomeClass | None = None
    train: Count = 1100
    test: Count = 200
    fresh: bool = False
    gated: bool = False
    batch_size: Count = 4
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fresh and self.gated:
            raise AdvfoolError(
                "fooling.gated=true chooses among composites that are drawn once: use fooling.fresh=false with it."
            )


def checked_original(heatmaps: Float[Tensor, "n *two h w"], original: OriginalMaps) -> Float[Tensor, "..."]:
    """Return the original network's heatmaps without their gradient, after a check of their shape.

    Args:
        heatmaps: of the manipulated network.
        original: of the original network.

    Raises:
        AdvfoolError: there are no original heatmaps, or they have another shape.
    """
    if original is None or original.shape != heatmaps.shape:
        raise AdvfoolError(
            f"This fooling compares with the original network's heatmaps: expected maps of shape "
            f"{tuple(heatmaps.shape)}, got {None if original is None else tuple(original.shape)}."
        )
    return original.detach()


def rectified(heatmaps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Set negative relevance to zero and normalise, in the maps that have any; others stay as they are."""
    signed = heatmaps.amin(dim=(1, 2), keepdim=True) < 0
    return torch.where(signed, normalise(heatmaps.relu()), heatmaps)
