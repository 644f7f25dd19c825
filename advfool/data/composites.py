"""Composite images for active fooling: two images of one class and two of another class in a 2x2 grid."""

import copy
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from advfool.data.base import DataModule
from advfool.data.samples import Sample, Samples, take
from advfool.utilities.errors import AdvfoolError, nearest

ENOUGH = 8  # a class with fewer selection images has its composites made from held-out training images
HELD_OUT = 0.2  # share of both classes' training images that is held out in that case


class Composites(Samples):
    """Combine two images of each of two classes to a grid, in random places; the label is the pair of classes.

    Args:
        data: the images to combine.
        classes: indices of the two classes.
        sources: for each class, the positions of its images in `data`.
        count: number of composites.
        seed: decides the images and places of every composite.
        fresh: whether a composite is drawn anew from torch's global generator each time it is read, instead.
    """

    def __init__(
        self,
        data: Samples,
        classes: tuple[int, int],
        sources: tuple[Int[Tensor, "a"], Int[Tensor, "b"]],
        count: int,
        seed: int,
        fresh: bool = False,
    ) -> None:
        self.data, self.classes, self.sources, self.count = data, classes, sources, count
        self.varies = fresh or data.varies
        self.drawn = None if fresh else self._draw(count, torch.Generator().manual_seed(seed))

    def only(self, indices: Int[Tensor, "k"]) -> "Composites":
        """Return some of the composites; those that are drawn anew each time cannot be told apart.

        Args:
            indices: which ones.
        """
        assert self.drawn is not None
        part = copy.copy(self)
        part.drawn, part.count = (self.drawn[0][indices], self.drawn[1][indices]), len(indices)
        return part

    def __len__(self) -> int:
        return self.count

    def labels(self) -> Int[Tensor, "n 2"]:
        return torch.tensor(self.classes).expand(self.count, 2)

    def groups(self) -> Int[Tensor, "n 4"]:
        if self.drawn is None:
            raise ValueError("Composites that are drawn anew each time (fresh) have no groups.")
        return self.data.groups()[self.drawn[0]]

    def digest(self, indices: Sequence[int] | None = None) -> str:
        if self.drawn is None:
            raise ValueError("Composites that are drawn anew each time (fresh) have no digest.")
        images, places = self.drawn if indices is None else (part[indices] for part in self.drawn)
        used, numbers = images.unique(return_inverse=True)
        content = hashlib.sha256(self.data.digest(used.tolist()).encode())
        content.update(repr((self.classes, numbers.tolist(), places.tolist())).encode())
        return content.hexdigest()

    def __getitem__(self, index: int) -> Sample:
        return Sample(*(values[0] for values in self.__getitems__([index])))

    def __getitems__(self, indices: list[int]) -> Sample:
        index = torch.as_tensor(indices)
        images, places = self._draw(len(index)) if self.drawn is None else (part[index] for part in self.drawn)
        cells = take(self.data, images.flatten().tolist()).image.unflatten(0, images.shape)
        by_place = cells.gather(1, places.argsort(dim=1)[:, :, None, None, None].expand_as(cells))
        labels = torch.tensor(self.classes).expand(len(index), 2)
        return Sample(_grid(by_place), labels, index, _cells(places, *cells.shape[-2:]))

    def _draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Int[Tensor, "n 4"], Int[Tensor, "n 4"]]:
        """Draw four different images (two of c1, then two of c2) and their places (0 to 3, row by row)."""
        pairs = [
            source[torch.rand(n, len(source), generator=generator).topk(2, dim=1).indices] for source in self.sources
        ]
        return torch.cat(pairs, dim=1), torch.rand(n, 4, generator=generator).argsort(dim=1)


def _grid(images: Float[Tensor, "n 4 c h w"]) -> Float[Tensor, "n c h w"]:
    """Arrange four images, each reduced to half its sides, row by row."""
    height, width = images.shape[-2:]
    half = (height - height // 2, width - width // 2)
    small = F.interpolate(images.flatten(0, 1), half, mode="bilinear", antialias=True).unflatten(0, images.shape[:2])
    top, bottom = (torch.cat(list(small[:, row : row + 2].unbind(1)), dim=-1) for row in (0, 2))
    return torch.cat([top, bottom], dim=-2)[..., :height, :width]


def _cells(places: Int[Tensor, "n 4"], height: int, width: int) -> Float[Tensor, "n 2 2 4"]:
    """Return the boxes (top, left, bottom, right) in pixels of the two images of each class."""
    half = (height - height // 2, width - width // 2)
    top, left = places // 2 * half[0], places % 2 * half[1]
    bottom, right = (top + half[0]).clamp_max(height), (left + half[1]).clamp_max(width)
    return torch.stack([top, left, bottom, right], dim=-1).float().unflatten(1, (2, 2))


class CompositeSplits(NamedTuple):
    """Hold the composites for training, for the choice of checkpoints and for the test; they share no source image."""

    train: Composites
    selection: Composites
    test: Composites


def composite_splits(
    data: DataModule,
    classes: tuple[str | int, str | int],
    train: int,
    test: int,
    fresh: bool = False,
    seed: int = 0,
) -> CompositeSplits:
    """Make composites from the data's own splits.

    If a class has fewer than 8 selection images, 20 % of the training images of both classes are held out for the
    selection instead, chosen by the seed. (Several images of the digits are drawn from one scan. In that case, the
    training may see other drawings of a scan that the selection uses.)

    Args:
        data: the images to combine.
        classes: two classes, by index or name.
        train: number of composites for training.
        test: number of composites for the test, and of those for the selection.
        fresh: whether training composites are drawn anew each time they are read.
        seed: decides which images are combined.

    Raises:
        AdvfoolError: there is no such class, or it has too few images; the message names class and split.
    """
    c1, c2 = class_indices(data, classes)
    pair = (c1, c2)
    plain, selection = data.plain_train(), data.selection()
    sources = {"train": _sources(plain, pair), "selection": _sources(selection, pair)}
    sources["test"] = _sources(data.test(), pair)
    held_out = min(map(len, sources["selection"])) < ENOUGH
    for split, needed in (("train", 4 if held_out else 2), ("test", 2)):
        for label, source in zip(pair, sources[split], strict=True):
            if len(source) < needed:
                raise AdvfoolError(
                    f"fooling=active needs at least {needed} {split} images of class '{data.labels[label]}' ({label}), "
                    f"found {len(source)}. Choose classes with more images (fooling.c1=..., fooling.c2=...) or more "
                    "images (data.limit_train, data.limit_test)."
                )
    if held_out:
        selection = plain
        (train_1, held_1), (train_2, held_2) = (_held_out(source, seed) for source in sources["train"])
        sources["train"], sources["selection"] = (train_1, train_2), (held_1, held_2)
    parts = {
        "train": (plain, sources["train"], train),
        "selection": (selection, sources["selection"], test),
        "test": (data.test(), sources["test"], test),
    }
    return CompositeSplits(
        **{
            split: Composites(images, pair, found, count, seed + turn, fresh and split == "train")
            for turn, (split, (images, found, count)) in enumerate(parts.items())
        }
    )


def class_indices(data: DataModule, classes: Sequence[str | int]) -> tuple[int, ...]:
    """Find the indices of classes.

    Args:
        data: the data module whose classes are meant.
        classes: each an index, a name (of a folder, or a wnid) or the word that people are shown.

    Raises:
        AdvfoolError: one of them does not exist, or both are the same.
    """
    found = []
    for given in classes:
        names = [data.classes, data.labels]
        if isinstance(given, int) and 0 <= given < len(data.classes):
            found.append(given)
        elif match := [table.index(str(given)) for table in names if str(given) in table]:
            found.append(match[0])
        else:
            raise AdvfoolError(
                f"There is no class {given!r} among the {len(data.classes)} of the data. Give an index from 0 to "
                f"{len(data.classes) - 1} or a name; close to it: "
                f"{nearest(str(given), list(dict.fromkeys([*data.classes, *data.labels])))}."
            )
    if len(set(found)) < len(found):
        raise AdvfoolError(f"fooling.c1 and fooling.c2 must be two different classes, got {list(classes)}.")
    return tuple(found)


def _sources(data: Samples, pair: tuple[int, int]) -> tuple[Int[Tensor, "a"], Int[Tensor, "b"]]:
    """Find the positions of the images of both classes."""
    labels = data.labels()
    first, second = ((labels == label).nonzero()[:, 0] for label in pair)
    return first, second


def _held_out(source: Int[Tensor, "n"], seed: int) -> tuple[Int[Tensor, "a"], Int[Tensor, "b"]]:
    """Split the positions of a class's training images into those to train on and those held out."""
    order = source[torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))]
    count = max(round(HELD_OUT * len(source)), 2)
    return order[count:], order[:count]


class WithComposites(LightningDataModule):
    """Load ordinary images, on which the classification is preserved, together with composites, which are fooled.

    A training batch is `{"images": ..., "composites": ...}`. For validation there are two loaders, first that of the
    images and then that of the composites.

    Args:
        data: the ordinary images.
        composites: the composites made from them.
        batch_size: composites in a training batch.
    """

    def __init__(self, data: DataModule, composites: CompositeSplits, batch_size: int) -> None:
        super().__init__()
        self.data, self.composites, self.batch_size = data, composites, batch_size

    @property
    def replays(self) -> int:
        """The number of times in a row that each training batch is served."""
        return self.data.replays

    @replays.setter
    def replays(self, times: int) -> None:
        self.data.replays = times

    def train_dataloader(self) -> CombinedLoader:
        parts = {"images": (self.data.train(), self.data.batch_size)}
        parts["composites"] = (self.composites.train, self.batch_size)
        turn = max(self.data.shuffled(*part).order.batches for part in parts.values())  # both loaders end together
        return CombinedLoader({name: self.data.shuffled(*part, turn) for name, part in parts.items()})

    def val_dataloader(self) -> list[DataLoader]:
        return [self.data.val_dataloader(), self.data.in_order(self.composites.selection)]
