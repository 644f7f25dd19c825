"""The files of a run folder: their names, how JSON is written and read, and files that are made once."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

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
PICTURES = ("heatmaps.png", "training.png", "aopc.png")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON (without NaN), complete or not at all.

    Args:
        path: the file; one that exists is replaced in one step.
        content: what `json` can write.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    part.replace(path)


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


def cached(path: Path, make: Callable[[Path], object]) -> Path:
    """Make a file or folder once, whoever asks first; other processes wait until it is complete.

    Args:
        path: where it belongs.
        make: writes it to the path that it is given, which is renamed to `path` when it is complete.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with FileLock(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                part = path.with_name(f"{path.stem}.part{path.suffix}")
                shutil.rmtree(part, ignore_errors=True)
                part.unlink(missing_ok=True)
                make(part)
                part.replace(path)
    return path
