"""Caches the original network's logits and heatmaps of images that never change.

They lie in memory-mapped files under a hash of everything that they depend on: the network's weights and code, the
images, the interpreter and advfool's own code. They are computed in the data set's order, so they do not depend on the
run that made them.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from advfool.data.samples import Samples
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import record
from advfool.models.weights import weights_digest
from advfool.utilities.classes import top_classes
from advfool.utilities.files import cached

VERSION = 2  # part of the key: raise it when what is cached changes
# Packages that no heatmap depends on; the rest of advfool's code is part of the key.
NOT_IN_KEY = ("commands", "evaluation", "foolings", "library", "metrics", "models", "reporting", "training")
ANOTHER = "label and another"  # class: the original network's top 2 include the most probable one besides the label
Targets = str | int  # `label`, ANOTHER, or k for the original network's top k classes


@runtime_checkable
class Precision(Protocol):
    """The part of Lightning's precision plugin that is needed."""

    precision: Any

    def forward_context(self) -> AbstractContextManager: ...


class OriginalAnswers(NamedTuple):
    """The original network's logits for a batch, and its heatmaps of the target classes."""

    logits: Float[Tensor, "n c"]
    maps: Callable[..., Float[Tensor, "n *two h w"]]  # of target classes (n, *two), and of which interpreter


class CachedOriginal:
    """The cached values of a data set, looked up by the index of the images.

    Args:
        folder: where `cached_original` has put them.
    """

    def __init__(self, folder: Path) -> None:
        self.arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in folder.glob("*.npy")}

    def look_up(self, index: Int[Tensor, "n"]) -> OriginalAnswers:
        """Look up the logits and heatmaps of the images at these positions, on the index's device."""
        rows = {name: torch.from_numpy(values[index.cpu().numpy()]) for name, values in self.arrays.items()}
        values = {name: row.to(index.device) for name, row in rows.items()}

        def maps(targets: Int[Tensor, "n *two"], place: int = 0) -> Float[Tensor, "n *two h w"]:
            wanted = targets if targets.dim() == 2 else targets[:, None]
            match = values["classes"][:, None] == wanted[:, :, None]
            if not match.any(dim=2).all():
                raise ValueError("The cache has no heatmap of one of these classes: it was made for other targets.")
            slot = match.int().argmax(dim=2)
            found = values["maps"].gather(1, slot[:, :, None, None].expand(-1, -1, *values["maps"].shape[2:]))
            return found if targets.dim() == 2 else found[:, 0]

        return OriginalAnswers(values["logits"], maps)


def cached_original(
    cache: Path,
    network: nn.Module,
    interpreter: Interpreter | None,
    data: Samples,
    loader: DataLoader,
    targets: Targets,
    device: torch.device,
    precision: Precision | None = None,
) -> CachedOriginal:
    """Compute what the original network says of all images of a data set, unless the cache has it.

    Other processes that need the same values wait for the one that computes them.

    Args:
        cache: the cache folder.
        network: the original network.
        interpreter: whose heatmaps are cached; None for logits alone.
        data: the images.
        loader: all of `data`, in order.
        targets: whose heatmaps are cached: `label`, ANOTHER, or k for the original network's top k classes.
        device: where they are computed.
        precision: that of the training, whose heatmaps are compared with these; mixed ones are followed, all others
            (and None) leave the network as it is.
    """
    key = _key(network, interpreter, data, loader.batch_size or 1, targets, device, precision)

    def make(folder: Path) -> None:
        folder.mkdir()
        with precision.forward_context() if precision else nullcontext():
            _compute(folder, network.to(device), interpreter, len(data), loader, targets)

    return CachedOriginal(cached(cache.expanduser() / "original" / key, make))


@torch.no_grad()
def _compute(
    folder: Path, network: nn.Module, interpreter: Interpreter | None, n: int, loader: DataLoader, targets: Targets
) -> None:
    device = next(network.parameters()).device
    files: dict[str, np.memmap] = {}
    start = 0
    for batch in track(loader, "The original network's heatmaps" if interpreter else "The original network's logits"):
        recording = record(network, batch.image.to(device), [interpreter] if interpreter else [])
        values = {"logits": recording.logits.to(torch.promote_types(recording.logits.dtype, torch.float32))}
        if interpreter:
            classes = _classes(recording.logits, batch.label.to(device), targets)
            values |= {"classes": classes, "maps": read_maps(interpreter, recording, classes)}
        stop = start + len(batch.label)
        for name, value in values.items():
            array = value.cpu().numpy()
            if name not in files:
                files[name] = _new_file(folder / f"{name}.npy", array.dtype, (n, *array.shape[1:]))
            files[name][start:stop] = array
        start = stop
    for file in files.values():
        file.flush()


def _new_file(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """Make an array in a file whose space is taken at once: a disk that is full later would kill the process."""
    array = np.lib.format.open_memmap(path, "w+", kind, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _classes(logits: Float[Tensor, "n c"], labels: Int[Tensor, "n *two"], targets: Targets) -> Int[Tensor, "n k"]:
    if targets == ANOTHER:
        return torch.cat([labels[:, None], top_classes(logits, 2)], dim=1)
    if isinstance(targets, str):
        return labels if labels.dim() == 2 else labels[:, None]
    return top_classes(logits, targets)


def _key(
    network: nn.Module,
    interpreter: Interpreter | None,
    data: Samples,
    batch_size: int,
    targets: Targets,
    device: torch.device,
    precision: Precision | None,
) -> str:
    settings = repr(replace(interpreter, name="")) if interpreter else None  # the name is what tables call it
    # Whatever changes the last digit, too, so that a seed gives the same numbers whoever filled the cache.
    threads = torch.get_num_threads() if device.type == "cpu" else None
    machine = [torch.__version__, device.type, threads, batch_size, precision.precision if precision else None]
    parts = [VERSION, *machine, _own_program(), _programs(network, interpreter), targets, settings]
    parts += [repr(network), _plain_attributes(network), weights_digest(network), data.digest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@cache
def _own_program() -> str:
    """Hash this package's files, except those that make no heatmap, so that an edited rule is computed again."""
    package = Path(__file__).parents[1]
    files = (path for path in sorted(package.rglob("*.py")) if path.relative_to(package).parts[0] not in NOT_IN_KEY)
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _programs(network: nn.Module, interpreter: Interpreter | None) -> list[list[str]]:
    """List the classes that the network and the interpreter are made of, by name and source: they may be edited."""
    objects = [*network.modules(), *_with_inner(interpreter)]
    kinds = dict.fromkeys(kind for each in objects for kind in type(each).__mro__)
    own = (kind for kind in kinds if not kind.__module__.startswith(("torch.", "builtins", "abc")))
    return sorted(_program(kind) for kind in own)


def _with_inner(interpreter: object) -> Iterator[object]:
    """Yield an interpreter and those that it is made of (as SmoothGrad is of one, and Aggregate of several)."""
    if isinstance(interpreter, tuple):
        for each in interpreter:
            yield from _with_inner(each)
    if is_dataclass(interpreter):
        yield interpreter
        for entry in fields(interpreter):
            yield from _with_inner(getattr(interpreter, entry.name))


def _program(kind: type) -> list[str]:
    try:
        return [kind.__module__, kind.__qualname__, inspect.getsource(kind)]
    except (OSError, TypeError):
        return [kind.__module__, kind.__qualname__, ""]


def _plain_attributes(network: nn.Module) -> list[str]:
    """List what a module's `repr` may leave out, such as googlenet's transform_input."""
    plain = (bool, int, float, str, tuple, type(None))
    return [
        f"{name}.{key}={value!r}"
        for name, module in network.named_modules()
        for key, value in sorted(vars(module).items())
        if not key.startswith("_") and isinstance(value, plain)
    ]
