"""Composite images for active fooling: two images of one class and two of another in a 2x2 grid."""

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

ENOUGH = 8  # selection images of a class that are enough for composites of their own
HELD_OUT = 0.2  # of the training images of both classes, where the selection images are too few


class Composites(Samples):
    """Grids of two images of each of two classes, in random places; the label is the pair of classes.

    sources: the positions in `data` of the images of each class. Composite i is always the same, drawn from the seed;
    with `fresh` every look draws a new one, from torch's global generator.
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

    def __len__(self) -> int:
        return self.count

    def labels(self) -> Int[Tensor, "n 2"]:
        return torch.tensor(self.classes).expand(self.count, 2)

    def digest(self, indices: Sequence[int] | None = None) -> str:
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
        """Four different images (two of c1, then two of c2) and their places (0 to 3, in reading order)."""
        pairs = [
            source[torch.rand(n, len(source), generator=generator).topk(2, dim=1).indices] for source in self.sources
        ]
        return torch.cat(pairs, dim=1), torch.rand(n, 4, generator=generator).argsort(dim=1)


def _grid(images: Float[Tensor, "n 4 c h w"]) -> Float[Tensor, "n c h w"]:
    """Four images, each halved, in reading order."""
    height, width = images.shape[-2:]
    half = (height - height // 2, width - width // 2)
    small = F.interpolate(images.flatten(0, 1), half, mode="bilinear", antialias=True).unflatten(0, images.shape[:2])
    top, bottom = (torch.cat(list(small[:, row : row + 2].unbind(1)), dim=-1) for row in (0, 2))
    return torch.cat([top, bottom], dim=-2)[..., :height, :width]


def _cells(places: Int[Tensor, "n 4"], height: int, width: int) -> Float[Tensor, "n 2 2 4"]:
    """The boxes (top, left, bottom, right) of the two images of each class."""
    half = (height - height // 2, width - width // 2)
    top, left = places // 2 * half[0], places % 2 * half[1]
    bottom, right = (top + half[0]).clamp_max(height), (left + half[1]).clamp_max(width)
    return torch.stack([top, left, bottom, right], dim=-1).float().unflatten(1, (2, 2))


class CompositeSplits(NamedTuple):
    """Composites to train on, to choose checkpoints by, and to measure on; no source image in two of them."""

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
    """Composites made from the data's own splits, `test` of them for the selection, too.

    Where there are few selection images of the two classes, a seeded part of their training images takes their place
    (of the digits, which are drawings of scans, other drawings of the same scan may then be trained on).

    Raises:
        AdvfoolError: there is no such class, or it has too few images; the message says where.
    """
    pair = class_indices(data, classes)
    plain, selection = data.plain_train(), data.selection()
    sources = {"train": _sources(plain, pair), "selection": _sources(selection, pair)}
    sources["test"] = _sources(data.test(), pair)
    lent = min(map(len, sources["selection"])) < ENOUGH
    for split, needed in (("train", 4 if lent else 2), ("test", 2)):
        for label, source in zip(pair, sources[split], strict=True):
            if len(source) < needed:
                raise AdvfoolError(
                    f"fooling=active needs at least {needed} {split} images of class '{data.labels[label]}' ({label}), "
                    f"found {len(source)}. Choose classes with more images (fooling.c1=..., fooling.c2=...) or more "
                    "images (data.limit_train, data.limit_test)."
                )
    if lent:
        selection = plain
        halves = (_held_out(source, seed) for source in sources["train"])
        sources["train"], sources["selection"] = zip(*halves, strict=True)
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
    """Classes given by index, by name (folder or wnid) or by the word shown to people, as indices.

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


def _sources(data: Samples, pair: tuple[int, ...]) -> tuple[Int[Tensor, "a"], ...]:
    labels = data.labels()
    return tuple((labels == label).nonzero()[:, 0] for label in pair)


def _held_out(source: Int[Tensor, "n"], seed: int) -> tuple[Tensor, Tensor]:
    order = source[torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))]
    count = max(round(HELD_OUT * len(source)), 2)
    return order[count:], order[:count]


class WithComposites(LightningDataModule):
    """Ordinary images, on which the classification is preserved, together with composites, which are fooled.

    Training batches are `{"images": ..., "composites": ...}`; the loaders to measure with are those two in turn.
    """

    def __init__(self, data: DataModule, composites: CompositeSplits, batch_size: int) -> None:
        super().__init__()
        self.data, self.composites, self.batch_size = data, composites, batch_size

    @property
    def replays(self) -> int:
        """How many times in a row each training batch is served."""
        return self.data.replays

    @replays.setter
    def replays(self, times: int) -> None:
        self.data.replays = times

    def train_dataloader(self) -> CombinedLoader:
        parts = {"images": (self.data.train(), self.data.batch_size)}
        parts["composites"] = (self.composites.train, self.batch_size)
        turn = max(self.data.shuffled(*part).sampler.batches for part in parts.values())  # both loaders end together
        return CombinedLoader({name: self.data.shuffled(*part, turn) for name, part in parts.items()})

    def val_dataloader(self) -> list[DataLoader]:
        return [self.data.val_dataloader(), self.data.in_order(self.composites.selection)]
