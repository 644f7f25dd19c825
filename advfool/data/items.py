"""Images and labels of a data set of any kind, read as tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision.transforms.functional import pil_to_tensor

from advfool.data.samples import Sample
from advfool.utilities.errors import AdvfoolError

_READ_TWICE = 8  # items that are read twice to find out whether the images vary


class Items:
    """Read the items of a map-style data set: images of one shape, with or without labels.

    Float images are taken as they are, as the network takes them. Images of 8 bits (tensors, arrays with channels
    last, or PIL images) become pixels in [0, 1]. Arrays in double precision become float32.

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
        self.dataset: Any = dataset  # torch declares neither the length nor the items of a data set
        self.name = name
        self._labels: Tensor | None = None
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
        item = self.dataset[position]
        where = f"{self.name}, position {position}"
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


def _image(image: Any, where: str) -> Float[Tensor, "c h w"]:
    """Convert an image of any kind to a tensor."""
    if isinstance(image, Image.Image):
        image = pil_to_tensor(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    elif isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3:
            image = np.moveaxis(image, -1, 0)
        image = torch.from_numpy(np.ascontiguousarray(image))
        image = image.float() if image.dtype == torch.float64 else image
    if isinstance(image, Tensor) and image.dim() == 2:
        image = image[None]
    if (
        not isinstance(image, Tensor)
        or image.dim() != 3
        or not (image.is_floating_point() or image.dtype == torch.uint8)
    ):
        found = f"{image.dtype} of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise AdvfoolError(
            f"{where}: expected an image as a PIL image, or as a tensor or array of floats or 8-bit integers with "
            f"channels, rows and columns, got {found}."
        )
    return _floats(image)


def _floats(images: Tensor) -> Float[Tensor, "..."]:
    return images / 255 if images.dtype == torch.uint8 else images


def _label(label: Any, where: str) -> int:
    """Convert a label of any kind to the index of its class."""
    value = label
    if isinstance(label, Tensor | np.ndarray | np.generic):
        value = label.item() if np.prod(label.shape, dtype=int) == 1 else None
    if not isinstance(value, int) or value < 0:
        raise AdvfoolError(f"{where}: expected a label that is the index of a class, from 0, got {label!r}.")
    return value
