"""The files of a run folder: their names, how JSON is written and read, and files that are made once."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError, safe_open

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.stored import stored_json

CONFIG = "config.yaml"  # the resolved configuration
METRICS = "metrics.json"  # the results; written last, so that a run that has it is finished
STATUS = "status.json"  # the outcome of a run in a sweep
ENVIRONMENT = "environment.json"  # versions, device, seed, commit
WEIGHTS = "manipulated.safetensors"  # the manipulated weights
PER_IMAGE = "per_image.parquet"  # one row for each test image
EXAMPLES = "examples.safetensors"  # a few images with their heatmaps
SNAPSHOTS = "snapshots.safetensors"  # heatmaps of fixed images by training step
CURVES = "aopc.json"  # AOPC curves
CHECKPOINTS = "checkpoints"  # folder of Lightning's checkpoints
LAST = "last.ckpt"  # the checkpoint of the last validation, which a run is resumed from
BEFORE_LAST = "last.previous.ckpt"  # the one before, in case that the last one is damaged
LOCK = ".lock"  # held by the process that works in the folder
PART = ".part"  # end of the name of a file that is being written
PICTURES = ("heatmaps.png", "training.png", "aopc.png")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON (without NaN), complete or not at all.

    Args:
        path: the file; one that exists is replaced in one step.
        content: what `json` can write.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object from a run's folder.

    Args:
        path: the file.

    Returns:
        its content, or None where the file is missing, damaged, no regular file of its folder, or holds something else
        than an object.
    """
    try:
        return stored_json(path.parent, path.name)
    except AdvfoolError:
        return None


def value_at(tree: object, path: Sequence[str]) -> Any:
    """Look up a value in a tree of mappings.

    Args:
        tree: mappings in mappings.
        path: the keys from the root to the value.

    Returns:
        the value, or None where there is no such place.
    """
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside a file to write to; what was written replaces the file in one step, on the same file system.

    Args:
        path: the file, which keeps its old content where an error or a kill comes between.

    Yields:
        the path to write to.
    """
    part = path.with_name(f"{path.name}{PART}")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time into a block; the lock ends with its process, and no file is left behind.

    Args:
        path: of the lock's file.
    """
    if fcntl is None:
        with FileLock(path):
            yield
        return
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                break
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # whoever held the lock has removed its file: this one is nobody's
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Tell whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def default_cache() -> Path:
    """Return the folder of data sets and pretrained networks where no other one is configured, as conf/ has it."""
    return Path(os.environ.get("ADVFOOL_CACHE", "~/.cache/advfool"))


def cached(path: Path, make: Callable[[Path], object]) -> Path:
    """Make a file or folder once, whoever asks first; other processes wait until it is complete.

    A damaged one (cut off, empty, of another format) is made again.

    Args:
        path: where it belongs.
        make: writes it to the path that it is given, which is renamed to `path` when it is complete.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not is_whole(path):
        with locked(path.with_name(f"{path.name}.lock")):
            if not is_whole(path):
                part = path.with_name(f"{path.stem}{PART}{path.suffix}")
                _remove(part)
                make(part)
                _remove(path)
                part.replace(path)
    return path


def is_whole(path: Path) -> bool:
    """Tell whether a file, or each file of a folder, exists and is as long as its header says.

    Args:
        path: a safetensors file, a .npy file, another file that must not be empty, or a folder of such files.
    """
    if path.is_dir():
        files = list(path.iterdir())
        return bool(files) and all(is_whole(file) for file in files)
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="np") as file:
                return bool(file.keys())
        if path.suffix == ".npy":
            np.load(path, mmap_mode="r")
        return path.stat().st_size > 0
    except (OSError, ValueError, EOFError, SafetensorError):
        return False


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
