"""Samples: an image with its label, index and box; data sets of them; the format in which a network reads images."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Len
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from advfool.utilities.checking import check_fields
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, Positive

Interpolation = Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"]
NO_BOX = (-1.0, -1.0, -1.0, -1.0)  # the box of an image whose object has no known place


class Sample(NamedTuple):
    """One image or, collated, a batch of images.

    Args:
        image: the image as the network takes it (normalised).
        label: index of the class among the network's outputs. A composite image has two labels.
        index: position of the image in its split.
        box: ground truth of the object as (top, left, bottom, right) in pixels, where bottom and right are excluded;
            -1 where it is unknown. A composite image has two boxes for each of its two classes, (2, 2, 4).
    """

    image: Float[Tensor, "*n c h w"]
    label: Int[Tensor, "*shape"]
    index: Int[Tensor, "*n"]  # pyright: ignore[reportIncompatibleMethodOverride]  # hides tuple.index, never called
    box: Float[Tensor, "*shape 4"]


class Samples(Dataset, ABC):
    """Define a data set of `Sample`s (abstract).

    The attribute `varies` says whether the same index gives a different image each time (random augmentation). A data
    set that can read several samples at once defines `__getitems__(indices)`, which returns a batch.
    """

    varies = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def labels(self) -> Int[Tensor, "n *two"]:
        """Return the label of every sample without reading the images."""

    @abstractmethod
    def digest(self, indices: Sequence[int] | None = None) -> str:
        """Hash everything that determines the images and labels, but no file names.

        Args:
            indices: positions of the samples to hash; None for all samples.
        """

    def groups(self) -> Int[Tensor, "n *k"]:
        """Return numbers that say which samples are related: those with an equal number are not independent.

        Drawings of one scan have its number; a composite has a number for each of its images. Here every sample is on
        its own.
        """
        return torch.arange(len(self))

    def path(self, index: int) -> str | None:
        """Return the file that a sample was read from, or None if it comes from no file."""
        return None


def some_of(total: int, count: int | None, seed: int = 0) -> list[int]:
    """Draw a random subset of the positions 0 to `total - 1`, because a data set may be sorted by class.

    Args:
        total: number of images.
        count: how many positions to draw; None for all.
        seed: decides which positions are drawn.

    Returns:
        The positions in ascending order.
    """
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values.tolist()


def take(data: Samples, indices: Sequence[int]) -> Sample:
    """Read the samples at these positions as one batch."""
    read_batch = getattr(data, "__getitems__", None)
    if read_batch is not None:
        return collate(read_batch(list(indices)))
    return collate([data[index] for index in indices])


def in_batches(
    data: Samples, indices: Sequence[int], size: int, device: torch.device | str = "cpu"
) -> Iterator[Sample]:
    """Read the samples at these positions in batches.

    Args:
        data: where they are.
        indices: their positions.
        size: samples of a batch; the last one may have fewer.
        device: where each batch is moved.
    """
    for start in range(0, len(indices), size):
        yield Sample(*(values.to(device) for values in take(data, indices[start : start + size])))


def collate(batch: Sample | list[Sample]) -> Sample:
    """Stack samples to a batch; a batch that the data set has read at once is returned as it is."""
    return batch if isinstance(batch, Sample) else default_collate(batch)


class ImageFormat(ABC):
    """Define the space of a network's input images (abstract): `image = (pixel - mean) / std`, pixels in [0, 1].

    The attribute `size` is the shorter side in pixels; `mean` and `std` have one number for each channel.
    """

    size: int
    mean: Sequence[float]
    std: Sequence[float]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image, the last two in pixels."""

    def normalise(self, pixels: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
        """Convert pixels in [0, 1] to the network's input space."""
        return (pixels - self._channel(self.mean, pixels)) / self._channel(self.std, pixels)

    def pixels(self, images: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
        """Convert images in the network's input space to pixels, clipped to [0, 1]."""
        return (images * self._channel(self.std, images) + self._channel(self.mean, images)).clamp(0, 1)

    def pixel_range(self) -> tuple[list[float], list[float]]:
        """Return the values of black and of white in the network's input space, for each channel."""
        channels = self.shape[0]
        black, white = (self.normalise(torch.full((channels, 1, 1), x)).flatten().tolist() for x in (0.0, 1.0))
        return black, white

    @staticmethod
    def _channel(values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


@dataclass(frozen=True)
class InputFormat(ImageFormat):
    """State how photos are prepared for a network: resized, cropped to a square and normalised.

    Args:
        size: side of the square image in pixels.
        resize: length in pixels to which the photo's shorter side is resized before the crop.
        mean: mean of the pixels (in [0, 1]) of each channel, which is subtracted.
        std: standard deviation of the pixels of each channel, by which the difference is divided.
        interpolation: `bilinear`, `bicubic` or another mode of torchvision.
    """

    size: Count
    resize: Count
    mean: Annotated[Sequence[float], Len(1)]
    std: Annotated[Sequence[Positive], Len(1)]
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.mean) != len(self.std):
            raise AdvfoolError(f"mean and std must have a number for each channel, got {self.mean} and {self.std}.")
        if self.resize < self.size:
            raise AdvfoolError(
                f"resize must be at least size, because the square is cut out of the resized photo: got "
                f"resize={self.resize}, size={self.size}."
            )
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.mean), self.size, self.size
