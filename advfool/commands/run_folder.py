"""The run folder: what is written when a run starts, and how a run is read again."""

import importlib.metadata
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from advfool.models.weights import UNREADABLE, misfits
from advfool.training.checkpoints import check_paths
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import CHECKPOINTS, CONFIG, ENVIRONMENT, METRICS, WEIGHTS, read_json, write_json
from advfool.utilities.stored import stored_path, stored_yaml

PACKAGES = ("advfool", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "timm")


def write_config(folder: Path, cfg: DictConfig) -> None:
    """Write config.yaml, with every interpolation resolved."""
    (folder / CONFIG).write_text(OmegaConf.to_yaml(cfg, resolve=True))


def write_environment(folder: Path, module: str, seed: int, device: str) -> None:
    """Write environment.json, which says what is needed to repeat the run.

    Args:
        folder: of the run.
        module: that of the command, such as `advfool.train`.
        seed: of the run.
        device: `cpu` or `cuda`.
    """
    environment = {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "seed": seed,
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": commit(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    write_json(folder / ENVIRONMENT, environment)


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the configuration and the results of a finished run, as data: nothing is resolved or built.

    Returns:
        the configuration, which `advfool.utilities.trust.Trust` has not checked yet, and the results.

    Raises:
        AdvfoolError: it is no run's folder, the run has not finished, a file is damaged, or a link leads out of it.
    """
    for name in (CONFIG, METRICS, WEIGHTS):
        if not (folder / name).is_file():
            raise AdvfoolError(
                f"run={folder}: expected the folder of a finished training run, found no '{name}' in it. "
                "Finish the run (resume=...), or give manipulated=PATH."
            )
    metrics = read_json(folder / METRICS)
    if metrics is None:
        raise AdvfoolError(f"run={folder}: {METRICS} is damaged. Finish the run again.")
    stored_path(folder, WEIGHTS)
    return stored_yaml(folder, CONFIG), metrics


def checkpoint_to_resume(folder: str) -> Path:
    """Find the last checkpoint of an interrupted run.

    Raises:
        AdvfoolError: there is none.
    """
    path = stored_path(Path(folder).expanduser(), Path(CHECKPOINTS, "last.ckpt"))
    if not path.is_file():
        raise AdvfoolError(
            f"resume={folder}: expected a checkpoint '{path}', found none. Give the folder of a run that was "
            "interrupted after its first validation (trainer.val_check_interval)."
        )
    return path


def check_resumable(path: Path, network: nn.Module, max_steps: int) -> None:
    """Raise an AdvfoolError where a checkpoint cannot be read safely or belongs to another network or schedule.

    Args:
        path: of the checkpoint.
        network: one of the run's architecture.
        max_steps: how many steps the training takes in all.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = checkpoint["state_dict"]  # what another program's file may lack
    except UNREADABLE as error:
        raise AdvfoolError(
            f"resume: '{path}' is not a checkpoint of advfool that can be read safely: {error}"
        ) from error
    check_paths(checkpoint, path)
    found = misfits(network, {key.removeprefix("network."): value for key, value in state.items()})
    if found:
        raise AdvfoolError(
            f"resume: '{path}' belongs to another network: {found}. Give the model and data of the interrupted run."
        )
    planned = {state["total_steps"] for state in checkpoint.get("lr_schedulers", ()) if "total_steps" in state}
    if planned - {max_steps}:
        raise AdvfoolError(
            f"resume: the interrupted run was planned for {planned.pop()} steps, which its learning rate follows; "
            f"trainer.max_steps is {max_steps}. Give the same number."
        )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Find the commit of the checkout that the package runs from, with `+` where files differ from it."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():  # installed, perhaps inside somebody else's repository
        return None
    git = ["git", "-C", str(checkout)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "advfool", "conf"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if dirty.strip() else "")
