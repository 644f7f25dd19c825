"""The run folder: what a run leaves behind, and how it is read again."""

import csv
import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from advfool.errors import AdvfoolError

PACKAGES = ("advfool", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "timm")


def write_config(folder: Path, cfg: DictConfig) -> None:
    """config.yaml with every interpolation resolved."""
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))


def write_environment(folder: Path, seed: int, device: str) -> None:
    """environment.json: what is needed to repeat the run."""
    environment = {
        "command": " ".join(["python", "-m", "advfool.train", *sys.argv[1:]]),
        "seed": seed,
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": _commit(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    write_json(folder / "environment.json", environment)


def write_json(path: Path, content: dict) -> None:
    """Strict JSON (no NaN), readable by people."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_history(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(steps, values) of every quantity in metrics.csv."""
    path = folder / "metrics.csv"
    if not path.exists():
        return {}
    with path.open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name not in ("step", "epoch")]
    history = {}
    for name in names:
        points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
        if points:
            history[name] = tuple(np.array(column) for column in zip(*points, strict=True))
    return history


def checkpoint_to_resume(folder: str) -> Path:
    """The last checkpoint of an interrupted run.

    Raises:
        AdvfoolError: there is none.
    """
    path = Path(folder).expanduser() / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise AdvfoolError(
            f"resume={folder}: expected a checkpoint '{path}', found none. Give the folder of a run that was "
            "interrupted after its first look at the selection images (trainer.val_check_interval)."
        )
    return path


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that the package runs from, with `+` where files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if dirty.strip() else "")
