"""What the user of a command trusts in a run's folder."""

from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advfool.utilities.config import own_config_dirs, plain
from advfool.utilities.trust import Trust, leaf_texts, named_in


def trust_of(cfg: DictConfig, folder: Path) -> Trust:
    """Say what a configuration that is read from a folder may name.

    Args:
        cfg: the user's own configuration, without anything from the folder: what it names may be named again, and so
            may what is named by the YAML files of the user's own configuration folders.
        folder: of the run.
    """
    named = frozenset(_texts(cfg)) | named_in(own_config_dirs())
    return Trust((folder, Path(cfg.cache)), plain(cfg.get("allow")) or (), named)


def _texts(cfg: DictConfig) -> Iterator[str]:
    """Yield the texts of a configuration, and the values given on the command line."""
    for key in cfg:
        try:
            yield from leaf_texts(OmegaConf.to_container(OmegaConf.create({key: cfg._get_node(key)}), resolve=False))
            yield from leaf_texts(plain(cfg[key]))
        except OmegaConfBaseException:  # refers to what only a run of the sweep has
            continue
    if HydraConfig.initialized():
        for override in HydraConfig.get().overrides.task:
            yield override.partition("=")[2].strip("'\"")
