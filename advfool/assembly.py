"""From a config to built objects: data, network, interpreter, fooling."""

import logging
from dataclasses import asdict, dataclass

import torch
from omegaconf import DictConfig, open_dict
from torch import nn

from advfool.building import build
from advfool.data.base import DataModule, InputFormat
from advfool.errors import AdvfoolError
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter
from advfool.models import NetworkSource, find_target_layer
from advfool.pretraining import with_pretrained_weights

log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a config describes, built and checked against each other."""

    data: DataModule
    original: nn.Module
    interpreter: Interpreter
    fooling: Fooling


def assemble(cfg: DictConfig) -> Parts:
    """Builds everything and tries it on two images, so that what cannot work fails before the long work.

    The default target layer, where the config names none, is found and written into `cfg`.

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
    interpreter: Interpreter = build(cfg.interp)
    fooling: Fooling = build(cfg.fooling)
    _try_fooling(original, interpreter, fooling, data)
    return Parts(data, original, interpreter, fooling)


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
    images = torch.stack([dataset[i].image for i in range(min(2, len(dataset)))])
    heatmaps = interpreter.for_training()(network, images, 0)
    fooling.penalty(heatmaps, heatmaps if fooling.needs_reference else None)
