"""The kinds of data sets that can be wrapped, and how their items are found."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from advfool.data.items import Items, is_image_type
from advfool.utilities.errors import AdvfoolError

Source = Dataset | DataLoader | Tensor | Sequence


def items_of(source: Source, name: str) -> Items:
    """Find the items of a data set, a loader, a tensor of images or a pair of tensors.

    Args:
        source: a data set of one of these kinds.
        name: how messages call the data set.

    Raises:
        AdvfoolError: it is of another kind, or empty.
    """
    if isinstance(source, DataLoader):
        source = source.dataset
    if isinstance(source, Tensor):
        return Items(_tensors([source], name), name)
    if type(source) is TensorDataset:
        source = source.tensors
    if isinstance(source, tuple | list) and len(source) in (1, 2) and all(isinstance(part, Tensor) for part in source):
        parts = list(source)
        if parts[0].dim() == 4:  # and not a list of one or two images
            return Items(_tensors(parts, name), name)
    return Items(source, name)


def data_sets_of(module: LightningDataModule) -> dict[str, Any]:
    """Find the data sets of a Lightning data module.

    Args:
        module: its `prepare_data` and `setup` are called for the stages `fit` and `test`.

    Returns:
        The data sets `train`, `selection` (for validation) and `test`, the last two None where the module has none.

    Raises:
        AdvfoolError: a method gives something else than one `DataLoader`.
    """
    module.prepare_data()
    module.setup("fit")
    found: dict[str, Any] = {"train": _loaded(module, "train_dataloader")}
    found["selection"] = _loaded(module, "val_dataloader")
    if _has(module, "test_dataloader"):
        module.setup("test")
    return found | {"test": _loaded(module, "test_dataloader")}


def _has(module: LightningDataModule, method: str) -> bool:
    return getattr(type(module), method) is not getattr(LightningDataModule, method)


def _loaded(module: LightningDataModule, method: str) -> Any:
    """Return the data set of the loader that a method gives, or None if the module does not define the method."""
    if method != "train_dataloader" and not _has(module, method):
        return None
    loader = getattr(module, method)()
    if not isinstance(loader, DataLoader):
        raise AdvfoolError(
            f"{type(module).__name__}.{method}(): expected one DataLoader, got {type(loader).__name__}. Give the data "
            "sets themselves: dataset, selection=..., test=..."
        )
    return loader.dataset


def _tensors(parts: list[Tensor], name: str) -> TensorDataset:
    """Check images, with or without labels, and make a data set of them."""
    images = parts[0]
    if images.dim() != 4 or not is_image_type(images.dtype):
        raise AdvfoolError(
            f"{name}: expected a tensor of images (n, channels, height, width) of floats or unsigned integers (of 8, "
            f"16 or 32 bits), got {images.dtype} of shape {tuple(images.shape)}."
        )
    if images.layout != torch.strided or images.is_meta or images.is_quantized or 0 in images.shape[1:]:
        raise AdvfoolError(
            f"{name}: expected dense images with pixels and values, got a tensor of shape {tuple(images.shape)}, "
            f"layout {images.layout}, on {images.device}."
        )
    parts = [images.detach(), *parts[1:]]
    for labels in parts[1:]:
        if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.is_complex():
            raise AdvfoolError(
                f"{name}: expected the index of a class for each of {len(images)} images, got labels of "
                f"{labels.dtype} and shape {tuple(labels.shape)}."
            )
    return TensorDataset(*parts)
