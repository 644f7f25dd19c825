"""From a config to built objects: data, network, interpreters, fooling."""

import logging
from dataclasses import asdict, dataclass, replace

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from torch import nn

from advfool.data.base import DataModule
from advfool.data.composites import CompositeSplits, class_indices, composite_splits
from advfool.data.samples import InputFormat, take
from advfool.evaluation.comparison import AOPCSettings
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter
from advfool.models import NetworkSource, find_target_layer
from advfool.models.weights import weights_digest
from advfool.training.pretraining import with_pretrained_weights
from advfool.utilities.config import build
from advfool.utilities.errors import AdvfoolError

log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a config describes, built and checked against each other.

    original_sha256: of the original network's weights as they were read. interpreters: those to evaluate with, by name;
    the trained one, where there is one, comes first.
    """

    data: DataModule
    original: nn.Module
    original_sha256: str
    interpreters: dict[str, Interpreter]
    fooling: Fooling
    composites: CompositeSplits | None

    @property
    def trained(self) -> Interpreter:
        """The interpreter to train with."""
        return next(iter(self.interpreters.values()))


def assemble(cfg: DictConfig) -> Parts:
    """Builds everything and tries it on two images, so that what cannot work fails before the long work.

    The default target layer, where the config names none, is found and written into `cfg`. An interpreter that is
    evaluated with by default and cannot explain the network is left out with a warning.

    Raises:
        AdvfoolError: something does not exist or does not fit; the message says what to do.
    """
    source: NetworkSource = build(cfg.model)
    input = source.input_format()
    data: DataModule = build(cfg.data, input=input)
    if cfg.model.input is None:  # interpreters refer to it
        with open_dict(cfg):
            cfg.model.input = {"_target_": "advfool.data.InputFormat", **asdict(input)}
    original = with_pretrained_weights(source, cfg).build(data.classes)
    _try(original, input)
    if cfg.model.target_layer is None or cfg.model.layout is None:
        layer, layout = find_target_layer(original, input, cfg.model.target_layer)
        with open_dict(cfg):
            cfg.model.target_layer, cfg.model.layout = layer, cfg.model.layout or layout
        log.info("Target layer of %s: %s (model.target_layer=... chooses another)", source.name, layer)
    fooling: Fooling = build(cfg.fooling)
    composites = None
    if fooling.needs_composites:
        fooling = with_classes(fooling, data)
        with open_dict(cfg):
            cfg.fooling.c1, cfg.fooling.c2 = fooling.c1, fooling.c2
        counts = (fooling.train, fooling.test)
        composites = composite_splits(data, (fooling.c1, fooling.c2), *counts, fooling.fresh, fooling.seed)
    interpreters = _interpreters(cfg, original, fooling, data)
    AOPCSettings(**cfg.aopc).check(input.size, list(interpreters))
    return Parts(data, original, weights_digest(original), interpreters, fooling, composites)


def check_settings(cfg: DictConfig) -> None:
    """What no constructor sees, before anything is loaded.

    Raises:
        AdvfoolError: a value is none of those allowed.
    """
    if cfg.target not in ("label", "predicted"):
        raise AdvfoolError(f"target must be 'label' or 'predicted', got {cfg.target!r}.")
    if not isinstance(cfg.seed, int) or not 0 <= cfg.seed < 2**32:
        raise AdvfoolError(f"seed must be an integer from 0 to 2^32 - 1, got {cfg.seed!r}.")
    if cfg.fsr_images is not None and cfg.fsr_images < 1:
        raise AdvfoolError(f"fsr_images must be at least 1, or null for all test images, got {cfg.fsr_images}.")


def with_classes(fooling: Fooling, data: DataModule) -> Fooling:
    """Active fooling with both classes as indices: its own, or the data's pair where it names none."""
    given = [
        own if own is not None else default for own, default in zip((fooling.c1, fooling.c2), data.pair, strict=True)
    ]
    if None in given:
        raise AdvfoolError("fooling=active swaps two classes: name them, fooling.c1=... fooling.c2=...")
    c1, c2 = class_indices(data, given)
    return replace(fooling, c1=c1, c2=c2)


def _interpreters(cfg: DictConfig, network: nn.Module, fooling: Fooling, data: DataModule) -> dict[str, Interpreter]:
    found: dict[str, Interpreter] = {}
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    asked = any(override.startswith("evaluate_with") for override in given)
    if cfg.get("interp"):
        trained: Interpreter = build(cfg.interp)
        if not trained.name:
            raise AdvfoolError("The interpreter to train with has no name: give it one, interp.name=...")
        _try_fooling(network, trained.for_training(), fooling, data)
        found[trained.name] = trained
    for name, node in (cfg.get("evaluate_with") or {}).items():
        if name in found:
            continue
        interp = replace(build(node), name=name)  # columns and keys are named by it
        try:
            _try_fooling(network, interp, fooling, data)
        except AdvfoolError as error:
            if asked:
                raise AdvfoolError(f"evaluate_with={name}: {error}") from error
            log.warning("evaluate_with: %s is left out: %s", name, error)
        else:
            found[name] = interp
    if not found:
        raise AdvfoolError("There is no interpreter to evaluate with: give one that works, evaluate_with=[gradcam].")
    return found


@torch.no_grad()
def _try(network: nn.Module, input: InputFormat) -> None:
    try:
        network(torch.zeros(2, 3, input.size, input.size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise AdvfoolError(
            f"{type(network).__name__} cannot take images of {input.size}x{input.size}: {error}. "
            "Choose another size: model.input.size=..., model.input.resize=..."
        ) from error


@torch.no_grad()
def _try_fooling(network: nn.Module, interpreter: Interpreter, fooling: Fooling, data: DataModule) -> None:
    dataset = data.test()
    images = take(dataset, range(min(2, len(dataset)))).image
    heatmaps = interpreter(network, images, 0)
    if fooling.needs_composites:
        heatmaps = torch.stack([heatmaps, heatmaps], dim=1)
    fooling.penalty(heatmaps, heatmaps if fooling.needs_original else None)
