"""Data sets of your own as a data module: tensors, torch data sets, loaders, Lightning's data modules."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence

import torch
from jaxtyping import Int
from pytorch_lightning import LightningDataModule
from torch import Tensor

from advfool.data.base import DataModule
from advfool.data.copies import report_copies, report_equal_images
from advfool.data.items import Items
from advfool.data.pictures import shown
from advfool.data.samples import NO_BOX, ImageFormat, Sample, Samples, some_of
from advfool.data.sources import Source, data_sets_of, items_of
from advfool.data.splitting import Item, group_numbers, split_groups
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, Names, Seed, Workers

SHARES = {"train": 0.7, "selection": 0.1, "test": 0.2}  # of a data set that is split
MEASURED = 256  # training images that the range of the values is measured on
MOST_CLASSES = 1_000_000  # more are no classes, but numbers of something else
_HASHED = 64  # images that are read at a time to be hashed


@checked
def wrap(
    dataset: Source | LightningDataModule,
    selection: Source | None = None,
    test: Source | None = None,
    groups: Sequence[Hashable] | Int[Tensor, "n"] | None = None,
    seed: Seed = 0,
    batch_size: Count = 32,
    eval_batch_size: Count = 64,
    workers: Workers = 0,
    classes: Count | Names | None = None,
) -> DataModule:
    """Make a data module of a data set of any kind.

    Args:
        dataset: one of the following.

            - A tensor of images (n, c, h, w), or a pair of tensors, images and labels (n). Images may have any number
              of channels and any height and width.
            - A torch data set, or any sequence, of `(image, label)` or of images: tensors, NumPy arrays or PIL images.
            - A `DataLoader`, whose data set is taken (not its batch size or order).
            - A `LightningDataModule`, whose data sets for training, validation and test are taken.
            - A `DataModule` of advfool, which is returned as it is.

            Float images are taken as they are, and have to be what the network takes. Unsigned integers are divided by
            the largest value of their type. All images must have the same shape.
        selection: images for early stopping and the choice of checkpoints; None to split 10 % off the data set.
        test: images to measure the results on; None to split 20 % off the data set.
        groups: a number or name for each item of `dataset`, the same for images that are related (of one patient,
            frames of one film). Related images are kept in one split.
        seed: decides the split and the order of the training images.
        batch_size: training images in a batch of one process.
        eval_batch_size: images in a batch for measuring.
        workers: processes that load images; 0 to load in the main process.
        classes: number or names of the network's classes; None for the largest label plus one.

    Raises:
        AdvfoolError: the data set is of another kind, has too few images or groups for the split, images of different
            shapes, or labels that are no class.

    >>> data = wrap((torch.rand(10, 1, 8, 12), torch.arange(10) % 3))
    >>> len(data.train()), len(data.selection()), len(data.test()), data.classes
    (7, 1, 2, ('0', '1', '2'))
    """
    if isinstance(dataset, DataModule):
        return dataset
    given: dict[str, Source | None] = {"selection": selection, "test": test}
    if isinstance(dataset, LightningDataModule):
        own = data_sets_of(dataset)
        given = {name: own[name] if source is None else source for name, source in given.items()}
        items = {"train": items_of(own["train"], "dataset")}
    else:
        items = {"train": items_of(dataset, "dataset")}
    items |= {name: items_of(source, name) for name, source in given.items() if source is not None}
    total = len(items["train"])
    groups = range(total) if groups is None else groups.tolist() if isinstance(groups, Tensor) else groups
    if len(groups) != total:
        raise AdvfoolError(f"groups: expected a group for each of {total} images, got {len(groups)}.")
    shares = {name: SHARES[name] for name in ("test", "selection") if name not in items} | {"train": SHARES["train"]}
    positions = split_groups(groups, shares, seed)
    if len({(each.shape, each.has_labels) for each in items.values()}) > 1:
        kinds = [
            f"{name} {each.shape} {'with' if each.has_labels else 'without'} labels" for name, each in items.items()
        ]
        raise AdvfoolError(f"Expected images of one shape in all data sets, all with labels or none, got {kinds}.")
    if classes is None:
        classes = 1 + max(int(each.labels().max()) for each in items.values())
        if classes > MOST_CLASSES:
            raise AdvfoolError(
                f"dataset: expected labels that are indices of classes, got {classes - 1}. Number the classes from 0."
            )
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    related = {name: group_numbers([groups[place] for place in places]) for name, places in positions.items()}
    splits = {
        name: WrappedSamples(items.get(name, items["train"]), positions.get(name), len(names), related.get(name))
        for name in SHARES
    }
    _report_copies(splits)
    return WrappedModule(
        **splits, classes=names, seed=seed, batch_size=batch_size, eval_batch_size=eval_batch_size, workers=workers
    )


class WrappedSamples(Samples):
    """Read some items of a data set as samples.

    Args:
        items: the data set.
        positions: which of its items; None for all.
        classes: number of classes.
        groups: a number for each of them, the same for related ones; None where all are independent.
    """

    def __init__(
        self,
        items: Items,
        positions: Sequence[int] | None,
        classes: int,
        groups: Int[Tensor, "n"] | None = None,
    ) -> None:
        self.items, self.classes, self.varies = items, classes, items.varies
        self.positions = list(range(len(items)) if positions is None else positions)
        self.own_groups = groups

    def __len__(self) -> int:
        return len(self.positions)

    def labels(self) -> Int[Tensor, "n"]:
        return self._checked(self.items.labels()[self.positions])

    def groups(self) -> Int[Tensor, "n"]:
        return super().groups() if self.own_groups is None else self.own_groups

    def digest(self, indices: Sequence[int] | None = None) -> str:
        chosen = list(range(len(self)) if indices is None else indices)
        content = hashlib.sha256(repr((len(chosen), self.items.shape)).encode())
        for start in range(0, len(chosen), _HASHED):
            batch = self.__getitems__(chosen[start : start + _HASHED])
            content.update(repr(batch.image.dtype).encode())
            for values in (batch.image, batch.label):
                content.update(values.contiguous().view(torch.uint8).numpy().tobytes())
        return content.hexdigest()

    def __getitem__(self, index: int) -> Sample:
        return Sample(*(values[0] for values in self.__getitems__([index])))

    def __getitems__(self, indices: list[int]) -> Sample:
        images, labels = self.items.read([self.positions[index] for index in indices])
        if not images.isfinite().all():
            place = indices[int((~images.isfinite()).flatten(1).any(dim=1).nonzero()[0])]
            raise AdvfoolError(
                f"{self.items.name}: expected finite images, got NaN or infinite values at position "
                f"{self.positions[place]}."
            )
        box = torch.tensor(NO_BOX).repeat(len(indices), 1)
        return Sample(images, self._checked(labels), torch.as_tensor(indices), box)

    def files(self) -> list[Item] | None:
        """Return the file and label of every sample, or None if the data set does not state them."""
        files = self.items.files()
        return None if files is None else [files[position] for position in self.positions]

    def path(self, index: int) -> str | None:
        files = self.items.files()
        return None if files is None else shown(files[self.positions[index]][0])

    def _checked(self, labels: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            wrong = labels[(labels < 0) | (labels >= self.classes)][0].item()
            raise AdvfoolError(
                f"{self.items.name}: expected labels from 0 to {self.classes - 1} ({self.classes} classes), got "
                f"{wrong}."
            )
        return labels


class MeasuredFormat(ImageFormat):
    """State the format of images by their smallest and largest value in each channel, as black and white.

    Args:
        shape: channels, height and width of the images.
        low: the smallest value of each channel.
        high: the largest value of each channel; a channel with one value only counts as one unit wide.
    """

    def __init__(self, shape: tuple[int, int, int], low: Sequence[float], high: Sequence[float]) -> None:
        self._shape, self.size = shape, min(shape[1:])
        self.low = list(low)
        self.high = [top if top > bottom else bottom + 1 for bottom, top in zip(low, high, strict=True)]
        self.std = [1 / (top - bottom) for bottom, top in zip(self.low, self.high, strict=True)]
        self.mean = [-bottom * std for bottom, std in zip(self.low, self.std, strict=True)]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    def pixel_range(self) -> tuple[list[float], list[float]]:
        return self.low, self.high


class WrappedModule(DataModule):
    """Provide samples of a data set that was wrapped (see `wrap`).

    The attribute `input` states the range of the images' values in each channel, measured on 256 training images
    chosen at random.

    Args:
        train: the training images.
        selection: the images for early stopping and the choice of checkpoints.
        test: the images that the results are measured on.
        classes: names of the network's classes.
        seed: decides the order of the training images.
        batch_size: training images in a batch of one process.
        eval_batch_size: images in a batch for measuring.
        workers: processes that load images; 0 to load in the main process.

    Raises:
        AdvfoolError: an image has a value that is not finite.
    """

    def __init__(
        self,
        train: WrappedSamples,
        selection: WrappedSamples,
        test: WrappedSamples,
        classes: tuple[str, ...],
        seed: int = 0,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        workers: int = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, workers, seed)
        self.classes = self.labels = classes
        self.has_labels = train.items.has_labels
        self.splits = {"train": train, "selection": selection, "test": test}
        self.input = _measured(train, seed)

    def with_classes(self, classes: int) -> "WrappedModule":
        """Return the same samples for a network with so many outputs, numbered from 0.

        Raises:
            AdvfoolError: a label is too large.
        """
        splits = {
            name: WrappedSamples(each.items, each.positions, classes, each.own_groups)
            for name, each in self.splits.items()
        }
        for each in splits.values():
            each.labels()
        return WrappedModule(
            **splits,
            classes=tuple(map(str, range(classes))),
            seed=self.seed,
            batch_size=self.batch_size,
            eval_batch_size=self.eval_batch_size,
            workers=self.workers,
        )

    def train(self) -> Samples:
        return self.splits["train"]

    def selection(self) -> Samples:
        return self.splits["selection"]

    def test(self) -> Samples:
        return self.splits["test"]


def _report_copies(splits: Mapping[str, WrappedSamples]) -> None:
    """Warn of images that two splits share, where finding them does not mean reading a whole data set."""
    files = {name: each.files() for name, each in splits.items()}
    known = {name: each for name, each in files.items() if each is not None}
    if len(known) == len(files):
        report_copies(known)
    elif all(each.items.in_memory for each in splits.values()):
        report_equal_images({name: (each.items.read, each.positions) for name, each in splits.items()})


def _measured(samples: WrappedSamples, seed: int) -> MeasuredFormat:
    """Measure the range of the values in each channel."""
    with torch.random.fork_rng(devices=[]):  # random augmentation must not change what is drawn later
        images = samples.__getitems__(some_of(len(samples), MEASURED, seed)).image
    channels, height, width = samples.items.shape
    low, high = images.amin(dim=(0, 2, 3)).tolist(), images.amax(dim=(0, 2, 3)).tolist()
    return MeasuredFormat((channels, height, width), low, high)
