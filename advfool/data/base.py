"""What every data set shares: the sample, the input format, and a data module with three splits."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from advfool.errors import AdvfoolError

NO_BOX = (-1.0, -1.0, -1.0, -1.0)


class Sample(NamedTuple):
    """One image or, collated, a batch of them.

    image: normalised, (3, h, w). label: index among the network's classes. index: position in its split.
    box: the object's ground truth (top, left, bottom, right) in pixels, bottom and right excluded; -1 where unknown.
    """

    image: Float[Tensor, "*n 3 h w"]
    label: Int[Tensor, "*n"]
    index: Int[Tensor, "*n"]
    box: Float[Tensor, "*n 4"]


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

    @staticmethod
    def _channel(values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def collate(batch: Sample | list[Sample]) -> Sample:
    """Stacks samples, unless the data set has already read a whole batch at once."""
    return batch if isinstance(batch, Sample) else default_collate(batch)


class DataModule(LightningDataModule):
    """Abstract: three splits of `Sample`s and the names of the classes their labels index.

    `classes` are the names of the network's outputs that the labels count (digits, folder names or wnids),
    `labels` the words shown to people. `selection()` is what early stopping and the choice of checkpoints see;
    it never shares an image with `test()`.
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    has_boxes = False

    def __init__(self, batch_size: int, eval_batch_size: int, workers: int, seed: int, **limits: int | None) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size), *limits.items()):
            if value is not None and value < 1:
                raise AdvfoolError(f"data.{name} must be at least 1, got {value}")
        self.limits = {"train": limits.get("limit_train")}
        self.limits |= {"selection": limits.get("limit_val"), "test": limits.get("limit_test")}
        self.batch_size, self.eval_batch_size, self.workers, self.seed = batch_size, eval_batch_size, workers, seed

    @abstractmethod
    def train(self) -> Dataset: ...

    @abstractmethod
    def selection(self) -> Dataset: ...

    @abstractmethod
    def test(self) -> Dataset: ...

    def train_dataloader(self) -> DataLoader:
        data = self.train()
        return self._loader(data, min(self.batch_size, len(data)), shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return self.in_order(self.selection())

    def test_dataloader(self) -> DataLoader:
        return self.in_order(self.test())

    def in_order(self, data: Dataset) -> DataLoader:
        """A loader for measuring: every image once, in the data set's order."""
        return self._loader(data, self.eval_batch_size)

    def _loader(self, data: Dataset, batch_size: int, shuffle: bool = False, **kwargs) -> DataLoader:
        # The order and the workers' seeds (augmentation) come from this generator.
        generator = torch.Generator().manual_seed(self.seed) if shuffle else None
        return DataLoader(
            data,
            batch_size,
            shuffle=shuffle,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=collate,
            generator=generator,
            **kwargs,
        )
