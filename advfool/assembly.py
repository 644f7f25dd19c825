"""From a config to built objects: data, network, interpreter, fooling."""

import logging
from dataclasses import dataclass

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from torch import nn

from advfool.data.base import DataModule
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter
from advfool.models import NetworkSource, find_target_layer
from advfool.pretraining import pretrained_weights
from advfool.recording import module_at

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
    source: NetworkSource = instantiate(cfg.model, _convert_="object")
    data: DataModule = instantiate(cfg.data, input=source.input_format(), _convert_="object")
    if source.weights == "pretrained" and not source.is_published():
        source.weights = str(pretrained_weights(cfg))
    original = source.build(data.classes)
    if cfg.model.target_layer is None:
        layer, layout = find_target_layer(original, source.input_format())
        with open_dict(cfg):
            cfg.model.target_layer, cfg.model.layout = layer, cfg.model.layout or layout
        log.info("Target layer of %s: %s (model.target_layer=... chooses another)", source.name, layer)
    module_at(original, cfg.model.target_layer)
    interpreter: Interpreter = instantiate(cfg.interp, _convert_="object")
    fooling: Fooling = instantiate(cfg.fooling, _convert_="object")
    _try(original, interpreter, fooling, data)
    return Parts(data, original, interpreter, fooling)


@torch.no_grad()
def _try(network: nn.Module, interpreter: Interpreter, fooling: Fooling, data: DataModule) -> None:
    dataset = data.test()
    images = torch.stack([dataset[i].image for i in range(min(2, len(dataset)))])
    heatmaps = interpreter(network, images, 0)
    fooling.penalty(heatmaps, heatmaps if fooling.needs_reference else None)
