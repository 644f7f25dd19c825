"""The cached weights of the tiny networks, trained where a config needs them and they are missing."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from advfool.data import digits
from advfool.data.base import DataModule
from advfool.models.base import NetworkSource
from advfool.training.pretraining import VERSION, Recipe, pretrain
from advfool.utilities.config import build, plain
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import cached
from advfool.utilities.text import file_name

# What the weights do not depend on; every other value of the config's `model` and `data` is part of the key.
NOT_OF_THE_MODEL = ("name", "weights", "target_layer", "layout", "channels_last", "classes")
NOT_OF_THE_DATA = ("cache", "batch_size", "eval_batch_size", "workers", "order_seed", "pair")
NOT_OF_THE_DATA += ("limit_train", "limit_val", "limit_test")


def pretrained_weights(cfg: DictConfig) -> Path:
    """Find the cached weights of `cfg.model` for `cfg.data`; they are trained now if they are missing.

    Several processes that ask for the same weights wait for one of them to train.

    Raises:
        AdvfoolError: the model has no settings for pretraining.
    """
    return cached(weights_path(cfg), lambda path: _train(cfg, path))


def with_pretrained_weights(source: NetworkSource, cfg: DictConfig) -> NetworkSource:
    """Replace the word `pretrained` by the path of the cached weights, for networks that are trained here."""
    if source.weights == "pretrained" and not source.has_pretrained():
        source.weights = str(pretrained_weights(cfg))
    return source


def weights_path(cfg: DictConfig) -> Path:
    """Name the file of the cached weights: the name holds a hash of everything that they depend on.

    Raises:
        AdvfoolError: the model has no settings for pretraining.
    """
    if "pretrain" not in cfg.model:
        raise AdvfoolError(
            f"model={cfg.model.name} is not trained here; use resnet_tiny, vgg_tiny or densenet_tiny, or give weights."
        )
    model, data = _without(plain(cfg.model), NOT_OF_THE_MODEL), _without(plain(cfg.data), NOT_OF_THE_DATA)
    if data.get("root"):
        data["root"] = str(Path(data["root"]).expanduser().absolute())
    if model["pretrain"].get("adversarial") is None:
        model["pretrain"] = _without(model["pretrain"], ("adversarial",))
    content = json.dumps([VERSION, digits.VERSION, model, data], sort_keys=True, default=str)
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    return (
        Path(cfg.cache).expanduser() / "weights" / f"{file_name(model.get('family', cfg.model.name))}-{key}.safetensors"
    )


def _without(node: Mapping, keys: tuple[str, ...]) -> dict:
    return {key: value for key, value in node.items() if key not in keys}


def _train(cfg: DictConfig, path: Path) -> None:
    """Train what a config describes; adversarial training starts where the plain one ended, with its own settings."""
    settings = plain(cfg.model.pretrain)
    adversarial = settings.pop("adversarial", None)
    start = None
    if adversarial:
        start = pretrained_weights(OmegaConf.merge(cfg, {"model": {"pretrain": {"adversarial": None}}}))  # type: ignore[arg-type]
        settings |= adversarial
    recipe = Recipe(**settings)
    source: NetworkSource = build(cfg.model)
    options: dict = {"batch_size": recipe.batch_size, "order_seed": recipe.seed}
    options |= {key: None for key in cfg.data if str(key).startswith("limit_")}
    data: DataModule = build(cfg.data, input=source.input_format(), **options)
    pretrain(source, data, recipe, path, start, OmegaConf.select(cfg, "trainer.accelerator", default="auto"))
