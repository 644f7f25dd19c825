"""The run folder: what is written when a run starts, and how a run is read again."""

import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from advfool.commands.status import read_status
from advfool.utilities.config import leaves
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import CONFIG, ENVIRONMENT, METRICS, WEIGHTS, read_json, replacing, write_json
from advfool.utilities.provenance import provenance
from advfool.utilities.stored import stored_bytes, stored_path, stored_yaml

NEEDED = ("model", "data", "fooling", "seed", "target")  # keys of every configuration that is written here


def write_config(folder: Path, cfg: DictConfig) -> None:
    """Write config.yaml, with every interpolation resolved."""
    with replacing(folder / CONFIG) as part:
        part.write_text(OmegaConf.to_yaml(cfg, resolve=True))


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
    } | provenance()
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
    if metrics is None or not metrics.keys() >= {"fsr", "accuracy", "original_sha256"}:
        raise AdvfoolError(f"run={folder}: {METRICS} is damaged. Give the run's command again to repair it.")
    stored_path(folder, WEIGHTS)
    return whole_config(folder), metrics


def whole_config(folder: Path) -> dict[str, Any]:
    """Read config.yaml of a run, as data.

    Raises:
        AdvfoolError: it is damaged: it cannot be read, was cut off, or lacks settings that status.json has.
    """
    found = stored_yaml(folder, CONFIG)
    paths = [path for path, _ in leaves(found)]
    settings = (read_status(folder) or {}).get("settings") or {}
    lacking = [key for key in NEEDED if key not in found]
    lacking += [
        key
        for key, value in settings.items()
        if value is not None and not any(path == key or path.startswith(f"{key}.") for path in paths)
    ]
    if lacking or not stored_bytes(folder, CONFIG).endswith(b"\n"):
        missing = f"it lacks {', '.join(lacking[:5])}" if lacking else "its last line was cut off"
        raise AdvfoolError(f"'{folder / CONFIG}' is damaged: {missing}. Give the run's command again to repair it.")
    return found
