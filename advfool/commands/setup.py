"""From a configuration to one frozen description of a run; nothing is written into the configuration afterwards."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import nn

from advfool.commands.pretrained import with_pretrained_weights
from advfool.commands.validation import check_built
from advfool.data.base import DataModule
from advfool.data.samples import InputFormat, take
from advfool.evaluation.assembly import assemble, try_network, with_classes
from advfool.evaluation.setup import AOPCSettings, Settings, Setup
from advfool.foolings.base import CompositeFooling, Fooling
from advfool.interpreters.base import Interpreter
from advfool.models import NetworkSource, find_target_layer
from advfool.training.settings import Training
from advfool.utilities.config import build, plain
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import module_at

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Configured:
    """A run as a configuration describes it.

    Args:
        setup: the data, the original network, interpreters, fooling and settings.
        config: the configuration, completed by what was found: the input format, the target layer, the classes.
        source: makes networks of the original's architecture.
    """

    setup: Setup
    config: DictConfig
    source: NetworkSource

    def network(self, weights: Path) -> nn.Module:
        """Build a network of the original's architecture with the weights in a file."""
        return replace(self.source, weights=str(weights)).build(self.setup.data.classes)


def build_setup(cfg: DictConfig) -> Configured:
    """Build everything that a configuration describes, and try it on two images.

    Args:
        cfg: of training or of an evaluation; it is left as it is.

    Raises:
        AdvfoolError: something does not exist or does not fit; the message says what to do.
    """
    for module in cfg.get("imports") or ():
        _import(module)
    check_built(cfg)
    settings = settings_from(cfg)
    source: NetworkSource = build(cfg.model)
    input, fooling = source.input_format(), build(cfg.fooling)
    data: DataModule = build(cfg.data, input=input)
    _check_before_work(cfg, source, data, fooling, settings)
    original = with_pretrained_weights(source, cfg).build(data.classes)
    try_network(original, data)
    layer, layout = cfg.model.target_layer, cfg.model.layout
    if layer is None or layout is None:
        shape = take(data.test(), [0]).image.shape[1:]
        layer, found = find_target_layer(original, shape, layer)
        layout = layout or found
        log.info("Target layer of %s: %s (model.target_layer=... chooses another)", source.name, layer)
    if isinstance(fooling, CompositeFooling):
        fooling = with_classes(fooling, data)
    config = _completed(cfg, input, layer, layout, fooling)
    trains = bool(config.get("interp"))
    setup = assemble(
        data,
        original,
        _interpreters(config),
        fooling,
        settings,
        trains=trains,
        optional=not any(override.startswith("evaluate_with") for override in _overrides()),
        model=source.name,
        target_layer=layer,
    )
    return Configured(setup, config, source)


def _check_before_work(
    cfg: DictConfig, source: NetworkSource, data: DataModule, fooling: Fooling, settings: Settings
) -> None:
    """Check what depends on the data and on the architecture before weights are trained or downloaded."""
    if isinstance(fooling, CompositeFooling):
        with_classes(fooling, data)
    if "drop_weight" in cfg:  # a training's
        training_from(cfg).check_with(fooling, settings.target, len(data.classes))
    names = [cfg.interp.name] if cfg.get("interp") else []
    settings.aopc.check(data.input.shape[-2:], [*names, *map(str, cfg.interpreters or {})])
    if source.weights == "pretrained" and not source.has_pretrained():
        network = replace(source, weights=None).build(data.classes)
        for layer in [cfg.model.target_layer, (cfg.get("interp") or {}).get("layer"), *(cfg.get("trainable") or ())]:
            if layer is not None:
                module_at(network, layer)


def settings_from(cfg: DictConfig) -> Settings:
    """Build the settings of a comparison; raise an AdvfoolError where a value is out of range."""
    aopc = AOPCSettings(**plain(cfg.aopc), seed=cfg.seed)
    return Settings(cfg.target, cfg.seed, cfg.fsr_images, aopc, cfg.pictures)


def training_from(cfg: DictConfig) -> Training:
    """Build the settings of a training; raise an AdvfoolError where a value is out of range."""
    return Training(
        preserve=build(cfg.preserve),
        optimizer=build(cfg.optimizer),
        scheduler=build(cfg.scheduler) if cfg.scheduler else None,
        fool_weight=cfg.fool_weight,
        train_target_top=cfg.train_target_top,
        mix=cfg.mix,
        trainable=plain(cfg.trainable),
        drop_weight=cfg.drop_weight,
        select=cfg.select,
        cache_original=cfg.cache_original,
        cache=Path(cfg.cache),
    )


def _completed(
    cfg: DictConfig, input: InputFormat, layer: str | None, layout: str | None, fooling: Fooling
) -> DictConfig:
    """Copy the configuration with the values that were found in place of those that are null."""
    model: dict[str, object] = {"target_layer": layer, "layout": layout}
    if cfg.model.input is None:  # interpreters refer to it
        model["input"] = {"_target_": "advfool.data.InputFormat", **asdict(input)}
    found: dict[str, Mapping[str, object]] = {"model": model}
    if isinstance(fooling, CompositeFooling):
        found["fooling"] = {"c1": fooling.c1, "c2": fooling.c2}
    open_copy = cfg.copy()
    OmegaConf.set_struct(open_copy, False)
    merged = OmegaConf.merge(open_copy, found)
    assert isinstance(merged, DictConfig)
    return merged


def _interpreters(cfg: DictConfig) -> dict[str, Interpreter]:
    """Build the interpreter to train with, where there is one, and then those to evaluate with, by name."""
    found: dict[str, Interpreter] = {}
    if cfg.get("interp"):
        trained: Interpreter = build(cfg.interp)
        if not trained.name:
            raise AdvfoolError("The interpreter to train with has no name: give it one, interp.name=...")
        found[trained.name] = trained
    for name, node in (cfg.interpreters or {}).items():
        if name not in found:
            found[str(name)] = replace(build(node), name=str(name))
    return found


def _overrides() -> list[str]:
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _import(module: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        raise AdvfoolError(f"imports: the module '{module}' cannot be imported: {error}.") from error
