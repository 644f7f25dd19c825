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
from advfool.commands.trials import built_interpreters, try_optimizer, try_trainer
from advfool.commands.validation import check_built
from advfool.data.base import DataModule
from advfool.data.samples import InputFormat, take
from advfool.evaluation.assembly import assemble, try_network, with_classes, with_controls
from advfool.evaluation.controls import OF_NETWORKS
from advfool.evaluation.setup import (
    AccuracySettings,
    AOPCSettings,
    FaithfulnessSettings,
    NullSettings,
    Settings,
    Setup,
)
from advfool.foolings.base import CompositeFooling, Fooling
from advfool.interpreters.base import Interpreter
from advfool.models import NetworkSource, find_target_layer
from advfool.training.settings import Training
from advfool.utilities.config import build, plain
from advfool.utilities.errors import AdvfoolError, first_line
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


def build_setup(cfg: DictConfig, any_scale: bool = False) -> Configured:
    """Build everything that a configuration describes, and try it on two images.

    Args:
        cfg: of training, an evaluation or an audit; it is left as it is.
        any_scale: see `assemble`.

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
    layer, layout = _target_layer(cfg, original, data)
    if isinstance(fooling, CompositeFooling):
        fooling = with_classes(fooling, data)
    config = _completed(cfg, input, layer, layout, fooling)
    trains = len([config.interp, *(config.get("others") or ())]) if config.get("interp") else 0
    setup = assemble(
        data,
        original,
        built_interpreters(config),
        fooling,
        settings,
        trains=trains,
        optional=not _chosen(),
        model=source.name,
        target_layer=layer,
        any_scale=any_scale,
    )
    configured = Configured(setup, config, source)
    return replace(configured, setup=with_controls(setup, _given_controls(configured)))


def _given_controls(configured: Configured) -> dict[str, nn.Module]:
    """Build the networks of controls whose weights are given."""
    nulls = configured.setup.settings.nulls
    given = {name: path for name in OF_NETWORKS if (path := getattr(nulls, name))}
    if lacking := [name for name in OF_NETWORKS if name in nulls.controls and name not in given]:
        log.warning(
            "nulls.controls: %s left out, for want of a network: give weights (nulls.%s=PATH), or see advfool.nulls.",
            " and ".join(lacking),
            lacking[0],
        )
    return networks_of_controls(configured, {name: Path(path).expanduser() for name, path in given.items()})


def networks_of_controls(configured: Configured, weights: Mapping[str, Path]) -> dict[str, nn.Module]:
    """Build the networks of controls from files of weights, by the control's name."""
    found = {}
    for name, path in weights.items():
        try:
            found[name] = configured.network(path)
        except AdvfoolError as error:
            raise AdvfoolError(f"nulls.{name}={path}: {error}") from error
    return found


def build_explained(cfg: DictConfig) -> tuple[DataModule, nn.Module, Interpreter]:
    """Build the data, the original network and the one interpreter that a configuration describes.

    Args:
        cfg: of a command that only explains; it is left as it is.

    Raises:
        AdvfoolError: something does not exist or does not fit; the message says what to do.
    """
    source: NetworkSource = build(cfg.model)
    input = source.input_format()
    data: DataModule = build(cfg.data, input=input)
    original = with_pretrained_weights(source, cfg).build(data.classes)
    try_network(original, data)
    interpreter: Interpreter = build(_completed(cfg, input, *_target_layer(cfg, original, data), None).interp)
    return data, original, interpreter


def _check_before_work(
    cfg: DictConfig, source: NetworkSource, data: DataModule, fooling: Fooling, settings: Settings
) -> None:
    """Check what depends on the data and on the architecture before weights are trained or downloaded."""
    if isinstance(fooling, CompositeFooling):
        with_classes(fooling, data)
    if "drop_weight" in cfg:  # a training's
        training_from(cfg).check_with(fooling, settings.target, len(data.classes))
    layer, layout = cfg.model.target_layer or "layer", cfg.model.layout or "nchw"
    tried = _completed(cfg, source.input_format(), layer, layout, fooling)
    settings.faithfulness.check(data.input.shape[-2:])
    settings.aopc.check(data.input.shape[-2:], list(built_interpreters(tried)))
    if "drop_weight" in cfg:
        _check_map_metrics(cfg, data)
        try_optimizer(cfg)
        if HydraConfig.initialized():  # which knows the folder of the run
            try_trainer(tried)
    if source.weights == "pretrained" and not source.has_pretrained():
        network = replace(source, weights=None).build(data.classes)
        for layer in [cfg.model.target_layer, (cfg.get("interp") or {}).get("layer"), *(cfg.get("trainable") or ())]:
            if layer is not None:
                module_at(network, layer)


def _check_map_metrics(cfg: DictConfig, data: DataModule) -> None:
    """Check the AOPC curves that validations measure, which they would fail at."""
    node = (cfg.callbacks or {}).get("map_metrics")
    if node and node.get("every_n_validations") and node.get("aopc_images"):
        try:
            AOPCSettings(node.aopc_images, node.steps, node.region).check(data.input.shape[-2:], [])
        except AdvfoolError as error:
            raise AdvfoolError(f"callbacks.map_metrics: {error}") from None


def _target_layer(cfg: DictConfig, network: nn.Module, data: DataModule) -> tuple[str | None, str | None]:
    """Return the target layer and the layout of its activation, found where the configuration leaves them open."""
    layer, layout = cfg.model.target_layer, cfg.model.layout
    if layer is None or layout is None:
        shape = take(data.selection(), [0]).image.shape[1:]
        layer, found = find_target_layer(network, shape, layer)
        layout = layout or found
        log.info("Target layer of %s: %s (model.target_layer=... chooses another)", cfg.model.name, layer)
    return layer, layout


def settings_from(cfg: DictConfig) -> Settings:
    """Build the settings of a comparison; raise an AdvfoolError where a value is out of range."""
    # The configuration of an older run lacks what did not exist: it has the default values.
    of = {key: plain(cfg[key]) if key in cfg else {} for key in ("aopc", "faithfulness", "nulls", "accuracy")}
    aopc = AOPCSettings(**of["aopc"], seed=cfg.seed)
    faithfulness = FaithfulnessSettings(**of["faithfulness"], seed=cfg.seed)
    nulls, accuracy = NullSettings(**of["nulls"]), AccuracySettings(**of["accuracy"])
    return Settings(cfg.target, cfg.seed, cfg.fsr_images, aopc, faithfulness, nulls, cfg.pictures, accuracy)


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
    cfg: DictConfig, input: InputFormat, layer: str | None, layout: str | None, fooling: Fooling | None
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


def _chosen() -> bool:
    """Tell whether the interpreters to evaluate with were chosen on the command line."""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    return any(override.startswith("evaluate_with") for override in given)


def _import(module: str) -> None:
    try:
        import_module(module)
    except Exception as error:  # a module may raise anything
        raise AdvfoolError(f"imports: the module '{module}' cannot be imported: {first_line(error)}") from error
