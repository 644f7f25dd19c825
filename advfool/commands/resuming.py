"""What a run is resumed from: a checkpoint of the same settings, the last one that is whole."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from torch import nn

from advfool.commands.keys import TrainKeys
from advfool.commands.schema import settings_of
from advfool.commands.status import Status, differences
from advfool.commands.validation import resolved
from advfool.models.values import check_kinds, check_values
from advfool.models.weights import UNREADABLE, misfits
from advfool.training.checkpoint_paths import check_paths
from advfool.training.checkpoints import ORIGIN
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import BEFORE_LAST, CHECKPOINTS, CONFIG, LAST, STATUS
from advfool.utilities.stored import stored_path
from advfool.utilities.text import shortened

log = logging.getLogger(__name__)
SHOWN = 5  # differences that a message lists
BEGUN = (STATUS, CONFIG, CHECKPOINTS, ".hydra")  # what the folder of a run has, however early it was killed


@dataclass(frozen=True)
class Interrupted:
    """The state of an interrupted training.

    Args:
        path: of the checkpoint.
        settings: of the run, by dotted path.
        machine: what decides the last digits, by name.
        weights: of the network.
    """

    path: Path
    settings: dict[str, Any]
    machine: dict[str, Any]
    weights: dict[str, torch.Tensor]


def settings_as_json(cfg: DictConfig, schema: type = TrainKeys) -> dict[str, Any]:
    """List the values that decide the results, by dotted path, as JSON has them."""
    return {path: _as_json(value) for path, value in settings_of(resolved(cfg, list(cfg)), schema).items()}


def machine_of(trainer: Trainer, workers: int) -> dict[str, Any]:
    """Describe what decides the last digits of a training, beside its settings.

    Args:
        trainer: Lightning's trainer.
        workers: processes that load images.
    """
    device = trainer.strategy.root_device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "workers": workers,
        "torch": str(torch.__version__),
    }


def is_started(folder: Path) -> bool:
    """Tell whether a run was started in a folder."""
    return any((folder / name).exists() for name in BEGUN)


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a folder has a checkpoint, whole or not."""
    return any((folder / CHECKPOINTS / name).is_file() for name in (LAST, BEFORE_LAST))


def check_source(given: str, settings: dict[str, Any]) -> None:
    """Raise an AdvfoolError where `resume` is no folder of a run with these settings.

    Args:
        given: the folder, as it was given.
        settings: of the run that is asked for.
    """
    folder = Path(given).expanduser()
    if not is_started(folder):
        found = "a folder without a run" if folder.is_dir() else "no such folder"
        raise AdvfoolError(f"resume={given}: expected the folder of an interrupted run, found {found}.")
    refuse_other_settings(folder, Status(folder).changed(settings))


def refuse_other_settings(folder: Path, changed: list[str]) -> None:
    """Raise an AdvfoolError that lists in which settings a run differs from the interrupted one, if it does."""
    if changed:
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise AdvfoolError(
            f"resume: the run in '{folder}' has other settings: {'; '.join(changed[:SHOWN])}{more}. A run is resumed "
            "with the settings it was started with. Give the same ones, or start another run (without resume, in "
            "another folder)."
        )


def find_interrupted(given: str, settings: dict[str, Any]) -> Interrupted | None:
    """Read the last checkpoint of a run that is whole.

    Args:
        given: the folder of the run.
        settings: of the run that resumes it.

    Returns:
        the state; None where the run was interrupted before its first validation, or no checkpoint is whole: it starts
        anew.

    Raises:
        AdvfoolError: the checkpoint belongs to a run with other settings, or a link leads out of the folder.
    """
    folder = Path(given).expanduser()
    for name in (LAST, BEFORE_LAST):
        path = stored_path(folder, Path(CHECKPOINTS) / name)
        if not path.is_file():
            continue
        found = _read(path)
        if found is None:
            log.warning("'%s' is damaged: the checkpoint before it is used, if there is one.", path)
            continue
        refuse_other_settings(folder, differences(found.settings, settings))
        return found
    log.warning("'%s' has no whole checkpoint, the first of which a run saves at its first validation: the training "
                "starts anew.", folder)  # fmt: skip
    return None


def check_network(found: Interrupted, network: nn.Module, machine: dict[str, Any]) -> None:
    """Raise an AdvfoolError where a checkpoint belongs to another network; warn where another machine resumes it.

    Args:
        found: the state of the interrupted training.
        network: one of the run's architecture.
        machine: what decides the last digits now.
    """
    weights = {key.removeprefix("network."): value for key, value in found.weights.items()}
    misfit = misfits(network, weights)
    if misfit:
        raise AdvfoolError(
            f"resume: '{found.path}' belongs to another network: {misfit}. Give the model and data of the interrupted "
            "run."
        )
    check_values(network, weights, f"'{found.path}'")
    before = {key: found.machine.get(key) for key in machine}
    changed = [f"{key} {shortened(before[key])} -> {now}" for key, now in machine.items() if before[key] != now]
    if changed:
        log.warning("Resumed on another machine, so the last digits may differ: %s.", "; ".join(changed))


def put_last(path: Path, folder: Path) -> Path:
    """Give a checkpoint of the run's own folder the name of the last one, which was damaged; return where it is now."""
    last = folder / CHECKPOINTS / LAST
    if path.name == LAST or path.parent.resolve() != last.parent.resolve():
        return path
    path.replace(last)
    return last


def _read(path: Path) -> Interrupted | None:
    try:
        with ZipFile(path) as parts:
            packed = any(part.compress_type != ZIP_STORED for part in parts.infolist())
            if packed or parts.testzip():  # torch never packs, and does not look at the checksums
                return None
        content = torch.load(path, map_location="cpu", weights_only=True)
        check_paths(content, path)
        origin, weights = content[ORIGIN], content["state_dict"]
        settings, machine = dict(origin["settings"]), dict(origin["machine"])
        if not isinstance(content["callbacks"], dict) or not all(isinstance(name, str) for name in weights):
            return None
        check_kinds(weights, str(path))
        whole = {"loops", "callbacks", "optimizer_states", "global_step"} <= content.keys()
        whole &= not any(has_nan(content.get(key)) for key in ("optimizer_states", "lr_schedulers"))
        return Interrupted(path, settings, machine, dict(weights)) if whole else None
    except (*UNREADABLE, MemoryError):
        return None


def has_nan(tree: object) -> bool:
    """Tell whether a tree of dictionaries, lists, numbers and tensors has a value that is not a number."""
    if isinstance(tree, torch.Tensor):
        return bool(tree.isnan().any())
    if isinstance(tree, dict):
        return any(map(has_nan, tree.values()))
    if isinstance(tree, list | tuple):
        return any(map(has_nan, tree))
    return isinstance(tree, float) and math.isnan(tree)


def _as_json(node: object) -> Any:
    """Turn numbers that JSON does not have into text."""
    if isinstance(node, dict):
        return {key: _as_json(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_as_json(value) for value in node]
    return str(node) if isinstance(node, float) and not math.isfinite(node) else node
