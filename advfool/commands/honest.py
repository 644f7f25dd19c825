"""The honest fine-tune: a training with the recipe of an attack, but without fooling, done once for all commands."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.console import Console

from advfool.commands.keys import TrainKeys, keys_of
from advfool.commands.objectives import result
from advfool.commands.own_folder import run_in_folder
from advfool.commands.resuming import settings_as_json
from advfool.commands.setup import Configured
from advfool.commands.train import train
from advfool.commands.validation import check_config
from advfool.utilities.config import plain
from advfool.utilities.files import WEIGHTS
from advfool.utilities.text import file_name

log = logging.getLogger(__name__)
VERSION = 1  # of what the same settings train
# One process, because a command that trains within another one cannot start more; and nothing but the weights is asked.
ALONE = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
UNMEASURED = {
    "fool_weight": 0,
    "evaluate_with": [],
    "interpreters": {},
    "logger": None,
    "paper": None,
    "resume": None,
    "objective": "fsr",
    "pictures": 0,
    "fsr_images": 10000,
    "aopc": {"images": 0},
    "accuracy": {"margin": 0.01},
    "faithfulness": {"images": 0},
    "nulls": {"controls": []},
}
LOOKS = ("map_metrics", "snapshots")  # callbacks that only measure and draw


def honest_finetune(configured: Configured) -> Path:
    """Find the weights of the honest fine-tune; it is trained now, or resumed, where it has not been before.

    The folder lies in the cache, and its name holds a hash of the recipe, the original network and the data.

    Args:
        configured: a run with the recipe of an attack.

    Raises:
        AdvfoolError: it cannot be trained.
        Diverged: the training destroyed the classifier.
    """
    setup, outside = configured.setup, Path(HydraConfig.get().runtime.output_dir)
    honest = _without_fooling(configured.config)
    content = [VERSION, _settings(honest, outside), setup.original_sha256, *_images(configured)]
    key = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
    folder = Path(honest.cache).expanduser().absolute() / "honest" / f"{file_name(setup.model)}-{key}"
    for node in ("callbacks", "trainer"):
        honest[node] = moved(plain(honest[node]), outside, folder)
    check_config(honest, "train")
    folder.mkdir(parents=True, exist_ok=True)
    log.info("The honest fine-tune, with fool_weight=0: %s", folder)
    with _writing_into(folder):
        quiet = Console(quiet=True)
        run_in_folder(lambda cfg: train(cfg, console=quiet), honest, folder, lambda place: result(place, honest))
    return folder / WEIGHTS


def _images(configured: Configured) -> list[str]:
    """Hash the images that the honest fine-tune is trained on and chosen by."""
    data = configured.setup.data
    return [split.digest() for split in (data.plain_train(), data.selection())]


def moved(tree: Any, old: Path, new: Path) -> Any:
    """Copy a tree of settings with the paths below one folder led below another one."""
    if isinstance(tree, dict):
        return {key: moved(value, old, new) for key, value in tree.items()}
    if isinstance(tree, str) and Path(tree).is_absolute() and Path(tree).is_relative_to(old):
        return str(new / Path(tree).relative_to(old))
    return tree


def _without_fooling(cfg: DictConfig) -> DictConfig:
    """Make the configuration of the training without fooling."""
    honest = OmegaConf.create({key: cfg._get_node(key) for key in keys_of(TrainKeys) if key in cfg})
    for key, value in UNMEASURED.items():
        OmegaConf.update(honest, key, value, merge=False)
    honest.trainer = {**plain(honest.trainer), **ALONE}
    honest.callbacks = {name: None if name in LOOKS else node for name, node in plain(honest.callbacks or {}).items()}
    return honest


def _settings(honest: DictConfig, outside: Path) -> dict[str, Any]:
    """List what the weights depend on, whichever folder the command works in."""
    return moved(settings_as_json(honest), outside, Path("/"))


@contextmanager
def _writing_into(folder: Path) -> Iterator[None]:
    """Let what runs meanwhile take a folder for that of the command."""
    before: Any = HydraConfig.instance().cfg
    within = before.copy()
    with read_write(within.hydra), open_dict(within.hydra):
        within.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(within)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
