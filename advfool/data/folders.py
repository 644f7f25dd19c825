"""Folders of photos, a folder for each class: one's own images, ImageNet, Imagenette."""

import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from advfool.data.base import DataModule
from advfool.data.imagenet import wnids, words
from advfool.data.samples import NO_BOX, InputFormat, Sample, Samples
from advfool.utilities.errors import AdvfoolError

CHECKED = 2000  # so many images are opened before the start; more would take too long
Item = tuple[Path, int]


class FolderModule(DataModule):
    """Images in `root/train/CLASS/` and `root/val/CLASS/`, or in `root/CLASS/`, which is then split.

    `val` is the test set; a seeded `selection_fraction` of train (at most `selection_limit` images) serves early
    stopping and the choice of checkpoints. With a third folder `test`, that is the test set and `val` serves the
    selection. Where every class folder is named by a wnid, labels are ImageNet's indices. `class_map` renames
    class folders to the network's class names. `limit_*` keep a seeded subset, `balanced` over the classes or
    `random`. Training images are random crops of `crop_scale` of the photo's area, flipped at random; without
    `augment` they are those of the test transform.
    """

    layout = "train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg alone (split by data.val_fraction)"
    hint = "Give another folder: data.root=/path/to/images."
    needs_splits = False

    def __init__(
        self,
        input: InputFormat,
        root: str,
        batch_size: int = 8,
        eval_batch_size: int = 32,
        workers: int = 2,
        augment: bool = True,
        crop_scale: Sequence[float] = (0.5, 1.0),
        val_fraction: float = 0.2,
        selection_fraction: float = 0.05,
        selection_limit: int = 1000,
        subset: str = "balanced",
        limit_train: int | None = None,
        limit_val: int | None = None,
        limit_test: int | None = None,
        class_map: Mapping | None = None,
        seed: int = 0,
        order_seed: int = 0,
        pair: Sequence[int | str] | None = None,
    ) -> None:
        limits = {"limit_train": limit_train, "limit_val": limit_val, "limit_test": limit_test}
        super().__init__(batch_size, eval_batch_size, workers, order_seed, pair, **limits)
        if subset not in ("balanced", "random"):
            raise AdvfoolError(f"data.subset must be 'balanced' or 'random', got {subset!r}.")
        for name, value in (("val_fraction", val_fraction), ("selection_fraction", selection_fraction)):
            if not 0 < value < 1:
                raise AdvfoolError(f"data.{name} must lie between 0 and 1, got {value}.")
        self.input, self.augment, self.split_seed = input, augment, seed
        self.crop_scale = crop_scale
        folders = self._find(Path(str(root)).expanduser())
        names = sorted({name for split in folders.values() for name in split})
        self.classes, self.labels, index = _classes(names, {str(k): str(v) for k, v in (class_map or {}).items()})
        items = {
            split: [(path, index[name]) for name, paths in classes.items() for path in paths]
            for split, classes in folders.items()
        }
        items = self._three_splits(items, val_fraction, selection_fraction, selection_limit)
        self.items = {name: _subset(items[name], self.limits[name], subset, seed) for name in items}
        self._check_readable()

    def train(self) -> Samples:
        if not self.augment:
            return self.plain_train()
        return Photos(self.items["train"], train_transform(self.input, self.crop_scale), varies=True)

    def plain_train(self) -> Samples:
        return Photos(self.items["train"], test_transform(self.input))

    def selection(self) -> Samples:
        return Photos(self.items["selection"], test_transform(self.input))

    def test(self) -> Samples:
        return Photos(self.items["test"], test_transform(self.input))

    def _find(self, root: Path) -> dict[str, dict[str, list[Path]]]:
        """Image paths by split and class folder; the single split `all` for a folder of class folders."""
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
        return {"all": self._class_folders(root)}

    def _class_folders(self, folder: Path) -> dict[str, list[Path]]:
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not classes:
            raise AdvfoolError(f"'{folder}' has no class folders. Expected: {self.layout}. {self.hint}")
        found = {}
        for path in classes:
            images = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMG_EXTENSIONS)
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
            train, test = _split(items["all"], val_fraction, self.split_seed)
        else:
            train, test = items["train"], items["val"]
        train, selection = _split(train, min(selection_fraction, selection_limit / len(train)), self.split_seed)
        return {"train": train, "selection": selection, "test": test}

    def _check_readable(self) -> None:
        paths = [path for items in self.items.values() for path, _ in items]
        if len(paths) <= CHECKED:
            with ThreadPoolExecutor() as pool:
                list(pool.map(read_image, paths))


class Imagenet(FolderModule):
    """ImageNet (ILSVRC 2012) in torchvision's layout or as plain train/ and val/ folders."""

    layout = "train/WNID/*.JPEG and val/WNID/*.JPEG (torchvision's ImageNet layout), a folder for each class"
    hint = (
        "Give ImageNet's folder: data.root=/path/to/imagenet (or set IMAGENET_ROOT). The small way out: "
        "data=imagenette downloads ten of its classes (about 100 MB)."
    )
    needs_splits = True


class Imagenette(FolderModule):
    """Imagenette: ten ImageNet classes, downloaded by torchvision, labelled with ImageNet's 1,000 indices."""

    def __init__(self, input: InputFormat, root: str, size: str = "160px", download: bool = True, **kwargs) -> None:
        from torchvision.datasets import Imagenette as Source

        if size not in Source._ARCHIVES:
            raise AdvfoolError(f"data.size must be one of {', '.join(Source._ARCHIVES)}, got {size!r}.")
        folder = Path(root).expanduser() / Path(Source._ARCHIVES[size][0]).stem
        if download and not folder.is_dir():
            try:
                Source(root, split="train", size=size, download=True)
            except (OSError, RuntimeError, tarfile.TarError) as error:
                archive = Source._ARCHIVES[size][0]
                raise AdvfoolError(
                    f"Could not download Imagenette: {error}. Fetch {archive} on another machine and unpack it into "
                    f"'{root}', so that '{folder}' exists, or name another folder: data.root=/path."
                ) from error
        super().__init__(input, str(folder), **kwargs)


class Photos(Samples):
    """Image files, decoded and transformed on the fly; `varies` says that the transform is random."""

    def __init__(self, items: Sequence[Item], transform, varies: bool = False) -> None:
        self.items, self.transform, self.varies = items, transform, varies

    def __len__(self) -> int:
        return len(self.items)

    def labels(self) -> Int[Tensor, "n"]:
        return torch.tensor([label for _, label in self.items])

    def digest(self, indices: Sequence[int] | None = None) -> str:
        def of_file(path: Path) -> bytes:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()

        items = self.items if indices is None else [self.items[index] for index in indices]
        content = hashlib.sha256(repr((self.transform, [label for _, label in items])).encode())
        with ThreadPoolExecutor() as pool:
            for part in pool.map(of_file, (path for path, _ in items)):
                content.update(part)
        return content.hexdigest()

    def path(self, index: int) -> str:
        return str(self.items[index][0])

    def __getitem__(self, index: int) -> Sample:
        path, label = self.items[index]
        return Sample(self.transform(read_image(path)), torch.tensor(label), torch.tensor(index), torch.tensor(NO_BOX))


def read_image(path: Path) -> Image.Image:
    """Decodes an image file to RGB.

    Raises:
        AdvfoolError: it cannot be read; the message names the path.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise AdvfoolError(f"Cannot read the image '{path}': {error}. Repair or remove it.") from error


def test_transform(input: InputFormat) -> v2.Compose:
    """Resize, centre crop, normalise (the paper's protocol: Resize 256, CenterCrop 224)."""
    mode = v2.InterpolationMode(input.interpolation)
    crop = [v2.Resize(input.resize, mode, antialias=True), v2.CenterCrop(input.size)]
    return v2.Compose([*crop, *_to_tensor(input)])


def train_transform(input: InputFormat, scale: Sequence[float]) -> v2.Compose:
    """Random crop of `scale` of the photo's area, random flip, normalise."""
    mode = v2.InterpolationMode(input.interpolation)
    crop = [v2.RandomResizedCrop(input.size, scale, interpolation=mode, antialias=True), v2.RandomHorizontalFlip()]
    return v2.Compose([*crop, *_to_tensor(input)])


def _to_tensor(input: InputFormat) -> list:
    return [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(input.mean, input.std)]


def _classes(
    folders: list[str], class_map: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    """Class names, words for people, and each folder's index among the names."""
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


def _split(items: list[Item], fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """A seeded random `fraction` of the images, at least one, apart from the rest."""
    if len(items) < 2:
        raise AdvfoolError(f"Cannot split {len(items)} image(s) into two parts; give at least 2.")
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed)).tolist()
    count = min(max(round(fraction * len(items)), 1), len(items) - 1)
    chosen = set(order[:count])
    return [x for i, x in enumerate(items) if i not in chosen], [x for i, x in enumerate(items) if i in chosen]


def _subset(items: list[Item], limit: int | None, how: str, seed: int) -> list[Item]:
    """A seeded subset: at random, or taking the classes in turn so that their counts differ by at most one."""
    if limit is None or limit >= len(items):
        return items
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed)).tolist()
    if how == "balanced":
        turn: dict[int, int] = {}
        rank = {}
        for i in order:
            rank[i] = turn[items[i][1]] = turn.get(items[i][1], -1) + 1
        order.sort(key=rank.__getitem__)  # stable: within a turn the classes stay in random order
    return [items[i] for i in sorted(order[:limit])]
