"""Samples: one image with its label, index and box; data sets of them; the format that a network reads."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset, default_collate

NO_BOX = (-1.0, -1.0, -1.0, -1.0)


class Sample(NamedTuple):
    """One image or, collated, a batch of them.

    image: normalised, (3, h, w). label: index among the network's classes; a composite has two, (2,).
    index: position in its split. box: the object's ground truth (top, left, bottom, right) in pixels, bottom and
    right excluded, -1 where unknown; a composite has two boxes for each of its classes, (2, 2, 4).
    """

    image: Float[Tensor, "*n 3 h w"]
    label: Int[Tensor, "*shape"]
    index: Int[Tensor, "*n"]
    box: Float[Tensor, "*shape 4"]


class Samples(Dataset, ABC):
    """Abstract: a data set of `Sample`s. `varies`: whether an image differs from look to look (augmentation)."""

    varies = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def labels(self) -> Int[Tensor, "n *two"]:
        """The label of every sample, without reading images."""

    @abstractmethod
    def digest(self, indices: Sequence[int] | None = None) -> str:
        """A hash of the content: of all that decides what the images (or those at `indices`) are, and of no name."""

    def path(self, index: int) -> str | None:
        """The file a sample comes from, if it comes from one."""
        return None


def some_of(total: int, count: int | None, seed: int = 0) -> list[int]:
    """The places of `count` (None: all) of so many images, in order: drawn at random, as a data set may be sorted."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values.tolist()


def take(data: Samples, indices: Sequence[int]) -> "Sample":
    """The samples at these positions as one batch."""
    if hasattr(data, "__getitems__"):
        return collate(data.__getitems__(list(indices)))
    return collate([data[index] for index in indices])


@dataclass(frozen=True)
class InputFormat:
    """How a network wants its images: square side and resize side in pixels, mean and std of [0, 1] pixels."""

    size: int
    resize: int
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))

    def normalise(self, pixels: Float[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n 3 h w"]:
        """Pixels in [0, 1] to the network's input space."""
        return (pixels - self._channel(self.mean, pixels)) / self._channel(self.std, pixels)

    def pixels(self, images: Float[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n 3 h w"]:
        """The network's input back to pixels, clipped to [0, 1]."""
        return (images * self._channel(self.std, images) + self._channel(self.mean, images)).clamp(0, 1)

    def pixel_range(self) -> tuple[list[float], list[float]]:
        """What black and white are for the network, by channel."""
        black, white = (self.normalise(torch.full((3, 1, 1), x)).flatten().tolist() for x in (0.0, 1.0))
        return black, white

    @staticmethod
    def _channel(values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def collate(batch: Sample | list[Sample]) -> Sample:
    """Stacks samples, unless the data set has already read a whole batch at once."""
    return batch if isinstance(batch, Sample) else default_collate(batch)
