"""Images and labels of a data set of any kind, read as tensors."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision.datasets import DatasetFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms.functional import pil_to_tensor

from advfool.data.pictures import decoded, read_image
from advfool.data.samples import Sample
from advfool.data.splitting import Item
from advfool.utilities.errors import AdvfoolError

_READ_TWICE = 8  # items that are read twice to find out whether the images vary
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32)  # integers that stand for pixels


class Items:
    """Read the items of a map-style data set: images of one shape, with or without labels.

    Float images are taken as they are, as the network takes them. PIL images, and unsigned integers (tensors, or
    arrays with channels last) become pixels in [0, 1] by the range of their type. Arrays in double precision become
    float32. The files of torchvision's `ImageFolder` are read by `read_image`, unless it was given another loader.

    Attributes:
        shape: channels, height and width of the images.
        has_labels: whether the items have labels; without them all labels are 0.
        varies: whether an image differs each time it is read (random augmentation), found out by reading the first 8
            items twice.

    Args:
        dataset: items are `(image, label)` or an image alone; it has a length.
        name: how messages call the data set.

    Raises:
        AdvfoolError: the data set has no items, no length, or items of another kind.
    """

    def __init__(self, dataset: Dataset | Sequence, name: str) -> None:
        self.dataset: Any = _with_own_decoder(dataset)  # torch declares neither the length nor the items of a data set
        self.name = name
        self._labels: Tensor | None = None
        if isinstance(dataset, str | bytes | Path | Mapping):
            raise AdvfoolError(
                f"{name}: expected a data set, a loader or tensors of images, got {type(dataset).__name__}. "
                "For a folder give torchvision.datasets.ImageFolder(path, transform)."
            )
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise AdvfoolError(
                f"{name}: expected a data set with a length and items by index, got {type(dataset).__name__}. Collect "
                "the images of a stream in a list or a tensor first."
            )
        if len(self) == 0:
            raise AdvfoolError(f"{name}: expected at least one image, got none.")
        with torch.random.fork_rng(devices=[]):  # random augmentation must not change what is drawn later
            image, label = self._item(0)
            self.shape, self.has_labels = tuple(image.shape), label is not None
            self.varies = self._varies()

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def in_memory(self) -> bool:
        """Whether the images are one tensor, whose entries cost nothing to read."""
        return type(self.dataset) is TensorDataset

    def read(self, positions: Sequence[int]) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, "n"]]:
        """Read images and labels.

        Raises:
            AdvfoolError: an image has another shape than the first of the data set, or an item is of another kind.
        """
        if type(self.dataset) is TensorDataset:
            images, labels = self.dataset.tensors[0], self.labels()
            return _floats(images[list(positions)]), labels[list(positions)]
        images, labels = [], []
        for position in positions:
            image, label = self._item(position)
            if tuple(image.shape) != self.shape or (label is not None) != self.has_labels:
                raise AdvfoolError(
                    f"{self.name}: expected items like the first one, an image of shape {self.shape} "
                    f"{'with' if self.has_labels else 'without'} a label, got an image of shape {tuple(image.shape)} "
                    f"{'without' if label is None else 'with'} a label at position {position}. Resize or crop all "
                    "images to one size."
                )
            images.append(image)
            labels.append(label or 0)
        return torch.stack(images), torch.tensor(labels)

    def files(self) -> list[Item] | None:
        """Return the file and label of every item, or None if the data set does not state them."""
        return _files(self.dataset)

    def labels(self) -> Int[Tensor, "n"]:
        """Return all labels, from the data set's attribute `targets` where that agrees with its items.

        Reads all items if the data set has no such attribute.
        """
        if self._labels is None:
            with torch.random.fork_rng(devices=[]):
                self._labels = self._read_labels()
        return self._labels

    def _read_labels(self) -> Int[Tensor, "n"]:
        if not self.has_labels:
            return torch.zeros(len(self), dtype=torch.long)
        known = self._known_labels(self.dataset)
        if known is None:
            known = torch.tensor([self._item(position)[1] for position in range(len(self))])
        return known

    def _item(self, position: int) -> tuple[Float[Tensor, "c h w"], int | None]:
        where = f"{self.name}, position {position}"
        try:
            item = self.dataset[position]
        except LookupError as error:
            raise AdvfoolError(
                f"{where}: there is no such item, although the data set's length is {len(self)}: {error!r}."
            ) from error
        if isinstance(item, Sample):
            item = item[:2]
        if not isinstance(item, tuple | list):
            return _image(item, where), None
        if len(item) == 1:
            return _image(item[0], where), None
        if len(item) == 2:
            return _image(item[0], where), _label(item[1], where)
        raise AdvfoolError(f"{where}: expected (image, label) or an image, got {len(item)} values.")

    def _varies(self) -> bool:
        if type(self.dataset) is TensorDataset:
            return False
        places = range(min(len(self), _READ_TWICE))
        first, second = ([self._item(place)[0] for place in places] for _ in range(2))
        return any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))

    def _known_labels(self, dataset: Any) -> Int[Tensor, "n"] | None:
        """Return the labels that a data set states without its images, or None if it states none."""
        if type(dataset) is TensorDataset:
            return dataset.tensors[1].long()
        if isinstance(dataset, Subset):
            known = self._known_labels(dataset.dataset)
            return None if known is None else known[list(dataset.indices)]
        if getattr(dataset, "target_transform", None) is not None:
            return None
        try:
            stated = torch.as_tensor(dataset.targets)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return None
        if stated.dim() != 1 or len(stated) != len(dataset) or stated.is_floating_point():
            return None
        for place in (0, len(dataset) - 1):
            item = dataset[place]
            if not isinstance(item, tuple | list) or len(item) != 2 or _label(item[1], self.name) != int(stated[place]):
                return None
        return stated.long()


def _with_own_decoder(dataset: Any) -> Any:
    """Let torchvision's data sets of files decode pictures as advfool does; the data set itself is left as it is."""
    if type(dataset) is Subset:
        inner = _with_own_decoder(dataset.dataset)
        return dataset if inner is dataset.dataset else Subset(inner, dataset.indices)
    if isinstance(dataset, DatasetFolder) and dataset.loader is default_loader:
        dataset = copy.copy(dataset)
        dataset.loader = _read_file
    return dataset


def _read_file(path: str) -> Image.Image:
    return read_image(Path(path))


def _files(dataset: Any) -> list[Item] | None:
    if type(dataset) is Subset:
        inner = _files(dataset.dataset)
        return None if inner is None else [inner[index] for index in dataset.indices]
    if isinstance(dataset, DatasetFolder):
        return [(Path(path), label) for path, label in dataset.samples]
    return None


def _image(image: Any, where: str) -> Float[Tensor, "c h w"]:
    """Convert an image of any kind to a tensor."""
    if isinstance(image, Image.Image):
        image = _picture(image, where)
    elif isinstance(image, np.ndarray):
        if image.dtype.kind == "u" and image.ndim == 3:
            image = np.moveaxis(image, -1, 0)
        if image.dtype.kind in "uf":
            kind = np.float32 if image.dtype.kind == "f" and image.itemsize > 4 else image.dtype.newbyteorder("=")
            image = torch.from_numpy(np.ascontiguousarray(image, kind))
    if isinstance(image, Tensor) and image.dim() == 2:
        image = image[None]
    if not isinstance(image, Tensor) or image.dim() != 3 or not is_image_type(image.dtype):
        kind = getattr(image, "dtype", None)
        found = type(image).__name__ if kind is None else f"{kind} of shape {tuple(image.shape)}"
        raise AdvfoolError(
            f"{where}: expected an image as a PIL image, or as a tensor or array of floats or unsigned integers (of 8, "
            f"16 or 32 bits) with channels, rows and columns, got {found}."
        )
    if 0 in image.shape:
        raise AdvfoolError(f"{where}: expected an image with pixels, got one of shape {tuple(image.shape)}.")
    return _floats(image.detach())


def _picture(image: Image.Image, where: str) -> Tensor:
    """Convert a PIL image to 8-bit integers or, if it has more bits, to floats from 0 to 1."""
    try:
        image = decoded(image)
    except (ValueError, OSError, SyntaxError) as error:
        raise AdvfoolError(f"{where}: the image cannot be read: {error}.") from error
    return pil_to_tensor(image)


def is_image_type(dtype: torch.dtype) -> bool:
    """Tell whether a tensor of this type can be an image: floats, or unsigned integers."""
    return dtype.is_floating_point or dtype in UNSIGNED


def _floats(images: Tensor) -> Float[Tensor, "..."]:
    """Divide unsigned integers by the largest value of their type."""
    if images.dtype not in UNSIGNED:
        return images
    if images.dtype == torch.uint8:
        return images / 255
    return (images.double() / torch.iinfo(images.dtype).max).float()


def _label(label: Any, where: str) -> int:
    """Convert a label of any kind to the index of its class."""
    value = label
    if isinstance(label, Tensor | np.ndarray | np.generic):
        value = label.item() if np.prod(label.shape, dtype=int) == 1 else None
    if not isinstance(value, int) or value < 0:
        raise AdvfoolError(f"{where}: expected a label that is the index of a class, from 0, got {label!r}.")
    return value
