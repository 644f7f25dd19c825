"""More selection images: a part of another data module's training images judges instead of training."""

from collections.abc import Sequence
from hashlib import sha256

import torch
from jaxtyping import Int
from torch import Tensor

from advfool.data.base import DataModule
from advfool.data.samples import Sample, Samples, collate, take
from advfool.data.splitting import split_groups


class WithMoreSelection(DataModule):
    """The images of another data module, some training images of which became selection images.

    Related images stay together; a selection image is read without augmentation. Test images stay as they are.

    Args:
        data: the images.
        images: number of selection images, as nearly as related images allow; more than there are.
        seed: decides which training images are taken.
    """

    def __init__(self, data: DataModule, images: int, seed: int) -> None:
        super().__init__(data.batch_size, data.eval_batch_size, data.workers, data.seed, None)
        self.classes, self.labels, self.input = data.classes, data.labels, data.input
        self.has_boxes, self.has_labels, self.pair = data.has_boxes, data.has_labels, data.pair
        self.data = data
        groups = [tuple(group) if isinstance(group, list) else group for group in data.train().groups().tolist()]
        share = (images - len(data.selection())) / len(groups)
        self.places = split_groups(groups, {"selection": share, "train": 1 - share}, seed)

    @property
    def moved(self) -> int:
        """The number of training images that became selection images."""
        return len(self.places["selection"])

    def train(self) -> Samples:
        return _Some(self.data.train(), self.places["train"])

    def plain_train(self) -> Samples:
        return _Some(self.data.plain_train(), self.places["train"])

    def selection(self) -> Samples:
        return _Both(self.data.selection(), _Some(self.data.plain_train(), self.places["selection"]))

    def test(self) -> Samples:
        return self.data.test()


class _Some(Samples):
    """Some of other samples, numbered anew."""

    def __init__(self, samples: Samples, places: Sequence[int]) -> None:
        self.samples, self.places, self.varies = samples, list(places), samples.varies

    def __len__(self) -> int:
        return len(self.places)

    def labels(self) -> Int[Tensor, "n *two"]:
        return self.samples.labels()[self.places]

    def groups(self) -> Int[Tensor, "n *k"]:
        return self.samples.groups()[self.places]

    def digest(self, indices: Sequence[int] | None = None) -> str:
        return self.samples.digest(self.places if indices is None else [self.places[index] for index in indices])

    def path(self, index: int) -> str | None:
        return self.samples.path(self.places[index])

    def __getitem__(self, index: int) -> Sample:
        return self.samples[self.places[index]]._replace(index=torch.tensor(index))

    def __getitems__(self, indices: list[int]) -> Sample:
        found = take(self.samples, [self.places[index] for index in indices])
        return found._replace(index=torch.tensor(indices))


class _Both(Samples):
    """Samples, and others after them, which are related to none of the first."""

    def __init__(self, first: Samples, second: Samples) -> None:
        self.first, self.second, self.varies = first, second, first.varies or second.varies

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def labels(self) -> Int[Tensor, "n *two"]:
        return torch.cat([self.first.labels(), self.second.labels()])

    def groups(self) -> Int[Tensor, "n *k"]:
        first, second = self.first.groups(), self.second.groups()
        return torch.cat([first, second - second.min() + first.max() + 1])

    def digest(self, indices: Sequence[int] | None = None) -> str:
        chosen = range(len(self)) if indices is None else indices
        own = len(self.first)
        parts = [index for index in chosen if index < own], [index - own for index in chosen if index >= own]
        both = f"{self.first.digest(parts[0])} {self.second.digest(parts[1])}"
        return sha256(both.encode()).hexdigest()

    def path(self, index: int) -> str | None:
        own = len(self.first)
        return self.first.path(index) if index < own else self.second.path(index - own)

    def __getitem__(self, index: int) -> Sample:
        own = len(self.first)
        found = self.first[index] if index < own else self.second[index - own]
        return found._replace(index=torch.tensor(index))

    def __getitems__(self, indices: list[int]) -> Sample:
        return collate([self[index] for index in indices])
