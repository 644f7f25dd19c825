"""The settings and the original network of a finished run, for another command."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from advfool.commands.trust import trust_of
from advfool.utilities.errors import AdvfoolError


def with_settings_of(stored: dict[str, Any], cfg: DictConfig, keys: Sequence[str]) -> DictConfig:
    """Take the settings of a run, except those that the command line gives, and except where things lie.

    Args:
        stored: the configuration of the run, as data.
        cfg: that of the command; it is left as it is.
        keys: those that are taken.

    Raises:
        AdvfoolError: a setting names a class or a path that is not opened for a stranger.
    """
    overrides = [override.partition("=")[0].lstrip("+~") for override in HydraConfig.get().overrides.task]
    taken = {key: stored[key] for key in keys if key in stored and key not in (*overrides, "cache")}
    for key in overrides:
        _remove(taken, key.split("."))
    if cfg.original:
        _remove(taken, ["model", "weights"])
    if "cache" in (taken.get("data") or {}):
        taken["data"]["cache"] = cfg.cache
    trust_of(cfg, Path(cfg.run).expanduser()).check(taken, f"run={cfg.run}")
    merged = OmegaConf.create({key: cfg._get_node(key) for key in cfg})
    for key, value in taken.items():
        merged[key] = value
    for key in overrides:
        if "." in key:
            OmegaConf.update(merged, key, OmegaConf.select(cfg, key))
    return merged


def check_original(run: str | None, expected: str | None, found: str) -> None:
    """Raise an AdvfoolError where the original network is not the one that a run started from.

    Args:
        run: the run's folder; None where there is none, and nothing is expected.
        expected: hash of the run's original weights; None where they may be others.
        found: hash of the weights at hand.
    """
    if expected not in (None, found):
        raise AdvfoolError(
            f"The original network is not the one that '{run}' started from: its weights differ. Give them: "
            "original=PATH."
        )


def _remove(tree: object, path: Sequence[str]) -> None:
    """Remove a value from a tree of dictionaries, if it is there."""
    *parents, last = path
    for key in parents:
        tree = tree.get(key) if isinstance(tree, dict) else None
    if isinstance(tree, dict):
        tree.pop(last, None)
