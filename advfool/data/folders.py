"""Folders of photos, with a folder for each class."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from advfool.data.base import DataModule
from advfool.data.copies import report_copies
from advfool.data.imagenet import wnids, words
from advfool.data.listing import class_folders, pictures_in
from advfool.data.pictures import DECODING, open_regular, read_image, shown
from advfool.data.samples import NO_BOX, InputFormat, Sample, Samples
from advfool.data.splitting import Item, split_off, take_subset
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, CropScale, Inside, Pair, Seed, SomeClass, Text, Workers
from advfool.utilities.roles import Role

SPLITS = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"}  # no names of classes
CHECKED = 2000  # data sets of at most so many images are read once at the start, to find damaged files early


class FolderModule(DataModule):
    """Provide the photos of a folder that has a folder for each class.

    The photos lie in `root/train/CLASS/` and `root/val/CLASS/`, or in `root/CLASS/`, which is then split into two.
    `val` is the test set, and a random part of `train` is the selection. If there is a folder `test`, that is the test
    set and `val` is the selection. If every class folder is named by a wnid, labels are ImageNet's class indices.

    Links are followed; hidden files and folders are left out. Pictures with the same content in two splits or in two
    classes are listed in a warning. `read_image` says how pictures are decoded.

    Args:
        input: the format of the network's images.
        root: the folder.
        batch_size: training images in a batch of one process.
        eval_batch_size: images in a batch for measuring.
        workers: processes that load images; 0 to load in the main process.
        augment: whether training images are random crops, flipped at random, instead of the centre crops of the test.
        crop_scale: smallest and largest area of a random crop, as fractions of the photo's area.
        val_fraction: fraction of the images that are the test set, for a folder without `train` and `val`.
        selection_fraction: fraction of the training images that are the selection.
        selection_limit: largest number of images that are taken for the selection.
        subset: how limits choose images: `balanced` over the classes or `random`.
        limit_train: number of training images; None for all.
        limit_val: the same for the selection images.
        limit_test: the same for the test images.
        class_map: class names of the network by the names of the class folders.
        seed: decides the split and the images that limits choose.
        order_seed: decides the order and the augmentation of the training images.
        pair: the two classes that active fooling swaps if the fooling names none.

    Raises:
        AdvfoolError: the folder has another layout, an image cannot be read, a class has no training images, or a
            setting is out of its range.
    """

    layout = "train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg alone (split by data.val_fraction)"
    hint = "Give another folder: data.root=/path/to/images."
    needs_splits = False

    @checked
    def __init__(
        self,
        input: InputFormat,
        root: Annotated[Text | Path, Role.PLACE],
        batch_size: Count = 8,
        eval_batch_size: Count = 32,
        workers: Annotated[Workers, Role.PLACE] = 2,
        augment: bool = True,
        crop_scale: CropScale = (0.5, 1.0),
        val_fraction: Inside = 0.2,
        selection_fraction: Inside = 0.05,
        selection_limit: Count = 1000,
        subset: Literal["balanced", "random"] = "balanced",
        limit_train: Count | None = None,
        limit_val: Count | None = None,
        limit_test: Count | None = None,
        class_map: Mapping[str | int, SomeClass] | None = None,
        seed: Seed = 0,
        order_seed: Seed = 0,
        pair: Pair | None = None,
    ) -> None:
        limits = {"limit_train": limit_train, "limit_val": limit_val, "limit_test": limit_test}
        super().__init__(batch_size, eval_batch_size, workers, order_seed, pair, **limits)
        self.input, self.augment, self.split_seed = input, augment, seed
        self.plain, self.augmented = test_transform(input), train_transform(input, crop_scale)
        folders = self._find(Path(str(root)).expanduser())
        names = sorted({name for split in folders.values() for name in split})
        renamed = {str(k): str(v) for k, v in (class_map or {}).items()}
        self.classes, self.labels, index = _classes(names, renamed)
        if self.classes != wnids():
            _check_trained({split: [self.classes[index[name]] for name in each] for split, each in folders.items()})
        items = {
            split: [(path, index[name]) for name, paths in classes.items() for path in paths]
            for split, classes in folders.items()
        }
        items = self._three_splits(items, val_fraction, selection_fraction, selection_limit)
        self.items = {name: take_subset(items[name], self.limits[name], subset, seed) for name in items}
        self._check_readable()
        report_copies(self.items)

    def train(self) -> Samples:
        if not self.augment:
            return self.plain_train()
        return Photos(self.items["train"], self.augmented, varies=True)

    def plain_train(self) -> Samples:
        return Photos(self.items["train"], self.plain)

    def selection(self) -> Samples:
        return Photos(self.items["selection"], self.plain)

    def test(self) -> Samples:
        return Photos(self.items["test"], self.plain)

    def _find(self, root: Path) -> dict[str, dict[str, list[Path]]]:
        """Find the paths of the images by split and class folder; a folder of class folders is one split, `all`."""
        if not root.is_dir():
            raise AdvfoolError(
                f"No images: the folder '{root}' (data.root) does not exist. Expected: {self.layout}. {self.hint}"
            )
        if self.needs_splits or (root / "train").is_dir() or (root / "val").is_dir():
            missing = [split for split in ("train", "val") if not (root / split).is_dir()]
            if missing:
                raise AdvfoolError(
                    f"'{root}' (data.root) has no folder '{missing[0]}'. Expected: {self.layout}. {self.hint}"
                )
            splits = [split for split in ("train", "val", "test") if (root / split).is_dir()]
            return {split: self._class_folders(root / split) for split in splits}
        found = self._class_folders(root)
        if {name.lower() for name in found} <= SPLITS:
            raise AdvfoolError(
                f"The folders of '{root}' (data.root) are named like splits, not classes: {', '.join(found)}. "
                f"Expected: {self.layout}. Rename them to 'train' and 'val'."
            )
        return {"all": found}

    def _class_folders(self, folder: Path) -> dict[str, list[Path]]:
        classes = class_folders(folder)
        if not classes:
            raise AdvfoolError(f"'{folder}' has no class folders. Expected: {self.layout}. {self.hint}")
        found = {}
        for path in classes:
            images = pictures_in(path)
            if not images:
                raise AdvfoolError(
                    f"The class folder '{path}' holds no images (looked for {', '.join(IMG_EXTENSIONS)}). "
                    "Put images into it or remove it."
                )
            found[path.name] = images
        return found

    def _three_splits(
        self, items: dict[str, list[Item]], val_fraction: float, selection_fraction: float, selection_limit: int
    ) -> dict[str, list[Item]]:
        if "test" in items:
            return {"train": items["train"], "selection": items["val"], "test": items["test"]}
        if "all" in items:
            train, test = split_off(items["all"], val_fraction, self.split_seed)
        else:
            train, test = items["train"], items["val"]
        train, selection = split_off(train, min(selection_fraction, selection_limit / len(train)), self.split_seed)
        return {"train": train, "selection": selection, "test": test}

    def _check_readable(self) -> None:
        """Read every image once, unless there are too many, so that a damaged file is found before the training."""
        paths = [path for items in self.items.values() for path, _ in items]
        if len(paths) <= CHECKED:
            with ThreadPoolExecutor() as pool:
                list(pool.map(read_image, paths))


class Photos(Samples):
    """Read image files, which are decoded and transformed each time.

    Args:
        items: path and label of each image.
        transform: turns a PIL image into the tensor that the network takes.
        varies: whether the transform is random.
    """

    def __init__(self, items: Sequence[Item], transform: Callable[[Image.Image], Tensor], varies: bool = False) -> None:
        self.items, self.transform, self.varies = items, transform, varies

    def __len__(self) -> int:
        return len(self.items)

    def labels(self) -> Int[Tensor, "n"]:
        return torch.tensor([label for _, label in self.items])

    def digest(self, indices: Sequence[int] | None = None) -> str:
        def of_file(path: Path) -> bytes:
            with open_regular(path) as file:
                return hashlib.file_digest(file, "sha256").digest()

        items = self.items if indices is None else [self.items[index] for index in indices]
        content = hashlib.sha256(repr((DECODING, self.transform, [label for _, label in items])).encode())
        with ThreadPoolExecutor() as pool:
            for part in pool.map(of_file, (path for path, _ in items)):
                content.update(part)
        return content.hexdigest()

    def path(self, index: int) -> str:
        return shown(self.items[index][0])

    def __getitem__(self, index: int) -> Sample:
        path, label = self.items[index]
        return Sample(self.transform(read_image(path)), torch.tensor(label), torch.tensor(index), torch.tensor(NO_BOX))


def test_transform(input: InputFormat) -> v2.Compose:
    """Create the transform that resizes a photo, crops its centre and normalises it.

    Source: Heo et al. 2019 resize to 256 and crop 224 pixels.
    """
    mode = v2.InterpolationMode(input.interpolation)
    crop = [v2.Resize(input.resize, mode, antialias=True), v2.CenterCrop(input.size)]
    return v2.Compose([*crop, *_to_tensor(input)])


def train_transform(input: InputFormat, scale: Sequence[float]) -> v2.Compose:
    """Create the transform that crops a random part of a photo, flips it at random and normalises it.

    Args:
        input: the format of the network's images.
        scale: smallest and largest area of the crop, as fractions of the photo's area.
    """
    mode, area = v2.InterpolationMode(input.interpolation), (scale[0], scale[1])
    crop = [v2.RandomResizedCrop(input.size, area, interpolation=mode, antialias=True), v2.RandomHorizontalFlip()]
    return v2.Compose([*crop, *_to_tensor(input)])


def _to_tensor(input: InputFormat) -> list[v2.Transform]:
    return [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(input.mean, input.std)]


def _check_trained(classes: Mapping[str, Sequence[str]]) -> None:
    """Check that training images show every class, where they are apart from the others.

    Args:
        classes: the classes that each split has folders of.

    Raises:
        AdvfoolError: a class of another split is missing in `train`.
    """
    for split, names in classes.items():
        missing = sorted(set(names) - set(classes.get("train", names)))
        if missing:
            raise AdvfoolError(
                f"'{split}' (data.root) has images of {len(missing)} classes that 'train' has none of: "
                f"{', '.join(missing[:10])}. Expected a folder in 'train' for each; add or remove them, or rename them "
                "by data.class_map={folder: class}."
            )


def _classes(
    folders: list[str], class_map: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    """Return the names of the classes, the words that people are shown, and the index of each folder's class."""
    unknown = sorted(set(class_map) - set(folders))
    if unknown:
        raise AdvfoolError(f"data.class_map names no class folder: {', '.join(unknown)}. Folders: {folders[:10]}.")
    names = {folder: str(class_map.get(folder, folder)) for folder in folders}
    imagenet = wnids()
    if set(names.values()) <= set(imagenet):
        position = {wnid: index for index, wnid in enumerate(imagenet)}
        return imagenet, words(), {folder: position[name] for folder, name in names.items()}
    classes = tuple(sorted(set(names.values())))
    return classes, classes, {folder: classes.index(name) for folder, name in names.items()}
