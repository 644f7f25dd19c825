"""A data module that needs no files."""

import torch

from advfool.data import InputFormat
from advfool.data.base import DataModule
from advfool.data.samples import Sample, Samples

HALF = (0.5, 0.5, 0.5)


class Pictures(Samples):
    """Random pixels, dim enough that the foolings differ from image to image."""

    def __init__(self, count: int, input: InputFormat) -> None:
        images = input.normalise(torch.rand(count, 3, 56, 56, generator=torch.Generator().manual_seed(count)))
        self.batch = Sample(images, torch.arange(count) % 10, torch.arange(count), torch.full((count, 4), -1.0))

    def __len__(self) -> int:
        return len(self.batch.label)

    def labels(self):
        return self.batch.label

    def digest(self, indices=None) -> str:
        return str(indices)

    def __getitems__(self, indices) -> Sample:
        return Sample(*(values[indices] for values in self.batch))


class RandomData(DataModule):
    """A data module that needs no files."""

    classes = labels = tuple("0123456789")
    input = InputFormat(56, 56, HALF, (0.25, 0.25, 0.25))

    def __init__(self, batch_size: int = 8, seed: int = 0, counts: tuple[int, int, int] = (24, 8, 12)) -> None:
        super().__init__(batch_size, 6, 0, seed)
        self.parts = dict(zip(("train", "selection", "test"), (Pictures(n, self.input) for n in counts), strict=True))

    def train(self) -> Samples:
        return self.parts["train"]

    def selection(self) -> Samples:
        return self.parts["selection"]

    def test(self) -> Samples:
        return self.parts["test"]
