"""What the original network says of images that never change: its logits and heatmaps, computed once and kept.

Kept in memory-mapped files under a hash of what they depend on: the network's weights, the images and the
interpreter. Values are computed in the data set's order, so they do not depend on the run that made them.
"""

import hashlib
import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from advfool.data.base import Samples
from advfool.interpreters.base import Interpreter, read_maps
from advfool.models.weights import weights_digest
from advfool.recording import record

VERSION = 1  # part of the key: raise it when what is kept changes
Targets = str | int  # `label`, or so many of the original network's most probable classes


class Original(NamedTuple):
    """The original network's logits for a batch, and its heatmaps of the target classes."""

    logits: Float[Tensor, "n c"]
    maps: Callable[[Int[Tensor, "n *two"]], Float[Tensor, "n *two h w"]]


class KeptOriginal:
    """The kept values of a data set, to look batches up in by their index."""

    def __init__(self, folder: Path) -> None:
        self.arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}

    def look_up(self, index: Int[Tensor, "n"]) -> Original:
        """Logits and heatmaps of the images at these positions, on the index's device."""
        rows = {name: torch.from_numpy(values[index.cpu().numpy()]) for name, values in self.arrays.items()}
        values = {name: row.to(index.device) for name, row in rows.items()}

        def maps(targets: Int[Tensor, "n *two"]) -> Float[Tensor, "n *two h w"]:
            wanted = targets if targets.dim() == 2 else targets[:, None]
            match = values["classes"][:, None] == wanted[:, :, None]
            if not match.any(dim=2).all():
                raise ValueError("Of some class no heatmap was kept: keep_original was given other targets.")
            slot = match.int().argmax(dim=2)
            found = values["maps"].gather(1, slot[:, :, None, None].expand(-1, -1, *values["maps"].shape[2:]))
            return found if targets.dim() == 2 else found[:, 0]

        return Original(values["logits"], maps)


def keep_original(
    cache: Path,
    network: nn.Module,
    interpreter: Interpreter | None,
    data: Samples,
    loader: DataLoader,
    targets: Targets,
    device: torch.device,
) -> KeptOriginal:
    """What `network` says of all images of `data`, computed now unless it has been before.

    interpreter: None to keep logits alone. loader: all of `data` in order. targets: whose heatmaps are kept.
    Other processes that need the same values wait for the one that computes them.
    """
    key = _key(network, interpreter, data, loader.batch_size, targets, device)
    folder = cache / "reference" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        with FileLock(folder.with_suffix(".lock")):
            if not folder.exists():
                unfinished = folder.with_suffix(".part")
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                _compute(unfinished, network.to(device), interpreter, len(data), loader, targets)
                unfinished.rename(folder)
    return KeptOriginal(folder)


@torch.no_grad()
def _compute(
    folder: Path, network: nn.Module, interpreter: Interpreter | None, n: int, loader: DataLoader, targets: Targets
) -> None:
    device = next(network.parameters()).device
    files: dict[str, np.memmap] = {}
    start = 0
    for batch in track(loader, "The original network's maps" if interpreter else "The original network's logits"):
        recording = record(network, batch.image.to(device), [interpreter] if interpreter else [])
        values = {"logits": recording.logits}
        if interpreter:
            classes = _classes(recording.logits, batch.label.to(device), targets)
            values |= {"classes": classes, "maps": read_maps(interpreter, recording, classes)}
        stop = start + len(batch.label)
        for name, value in values.items():
            array = value.cpu().numpy()
            if name not in files:
                shape = (n, *array.shape[1:])
                files[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", array.dtype, shape)
            files[name][start:stop] = array
        start = stop
    for file in files.values():
        file.flush()


def _classes(logits: Float[Tensor, "n c"], labels: Int[Tensor, "n *two"], targets: Targets) -> Int[Tensor, "n k"]:
    if targets == "label":
        return labels if labels.dim() == 2 else labels[:, None]
    if targets == 1:  # with ties not always the first of topk
        return logits.argmax(dim=1, keepdim=True)
    return logits.topk(min(targets, logits.shape[1]), dim=1).indices


def _key(
    network: nn.Module,
    interpreter: Interpreter | None,
    data: Samples,
    batch_size: int,
    targets: Targets,
    device: torch.device,
) -> str:
    settings = repr(replace(interpreter, name="")) if interpreter else None  # the name is what tables call it
    programs = [_program(type(part)) for part in (network, interpreter)]
    # Whatever changes the last digit, too, so that a seed gives the same numbers whoever filled the cache.
    machine = [torch.__version__, device.type, torch.get_num_threads(), batch_size]
    parts = [VERSION, *machine, *programs, targets, settings, repr(network)]
    parts += [weights_digest(network), data.digest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _program(kind: type) -> list[str]:
    """A class by its name and source, so that what somebody edits is computed again."""
    try:
        return [kind.__module__, inspect.getsource(kind)]
    except (OSError, TypeError):
        return [kind.__module__, kind.__qualname__]
