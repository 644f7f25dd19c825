"""One image, all interpreters side by side, on several networks."""

import logging
import shlex
from pathlib import Path

import torch
from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from advfool.commands.pretrained import with_pretrained_weights
from advfool.data.base import DataModule
from advfool.data.folders import read_image, test_transform
from advfool.data.imagenet import wnids, words
from advfool.data.samples import InputFormat
from advfool.evaluation.pictures import GalleryRow, gallery_picture
from advfool.interpreters import Interpreter
from advfool.library.interpreters import named_interpreter
from advfool.models import NetworkSource
from advfool.utilities.config import build
from advfool.utilities.errors import AdvfoolError, nearest

log = logging.getLogger(__name__)


def draw_gallery(cfg: DictConfig) -> Path:
    """Draw one image's heatmaps: a row for each network, a column for each interpreter.

    Args:
        cfg: the configuration; `output` is the picture.

    Raises:
        AdvfoolError: a model, an interpreter, the image or the target does not exist or does not fit.
    """
    if not cfg.models or not cfg.interps:
        raise AdvfoolError("gallery: give at least one of models=[...] and one of interps=[...].")
    rows = [_row(cfg, model) for model in cfg.models]
    output = Path(cfg.output).expanduser()
    output.parent.mkdir(parents=True, exist_ok=True)
    gallery_picture(output, rows)
    Console(highlight=False, soft_wrap=True).print(f"The picture: {output}")
    return output


def _row(cfg: DictConfig, model: str) -> GalleryRow:
    name, *overrides = shlex.split(model)
    try:
        own = compose("train", [f"model={name}", *overrides])
    except HydraException as error:
        raise AdvfoolError(f"gallery: cannot compose model '{model}': {str(error).splitlines()[0]}.") from error
    network, input, data, labels = _network(own)
    image = _image(cfg, input, data)[None]
    with torch.no_grad():
        confidence, prediction = network(image).softmax(dim=1).max(dim=1)
        target = prediction if cfg.target is None else torch.tensor([_class(cfg.target, labels)])
        interpreters = {n: named_interpreter(n, network, tuple(image.shape[1:]), input) for n in cfg.interps}
        maps = {n: _map(interpreter, network, image, target) for n, interpreter in interpreters.items()}
    return GalleryRow(
        own.model.name, input.pixels(image)[0], labels[target], f"{labels[prediction]} {confidence.item():.0%}", maps
    )


def _map(
    interpreter: Interpreter, network: nn.Module, image: torch.Tensor, target: torch.Tensor
) -> torch.Tensor | None:
    """Compute the heatmap; None, with a message, where the interpreter cannot explain the network (no rule for LRP)."""
    try:
        return interpreter(network, image, target)[0]
    except AdvfoolError as error:
        log.warning("%s on %s: %s", interpreter.name, type(network).__name__, str(error).split(". ")[0])
        return None


def _network(cfg: DictConfig) -> tuple[nn.Module, InputFormat, DataModule | None, tuple[str, ...]]:
    source: NetworkSource = build(cfg.model)
    input = source.input_format()
    if source.classes == "imagenet":
        return source.build(wnids()), input, None, words()
    data: DataModule = build(cfg.data, input=input)
    return with_pretrained_weights(source, cfg).build(data.classes), input, data, data.labels


def _image(cfg: DictConfig, input: InputFormat, data: DataModule | None) -> torch.Tensor:
    if cfg.image is not None:
        return test_transform(input)(read_image(Path(cfg.image).expanduser()))
    if data is None:
        raise AdvfoolError("gallery: give a picture for networks that are not for the digits: image=PATH.")
    images = data.test()
    return images[int(torch.randint(len(images), (1,), generator=torch.Generator().manual_seed(cfg.seed)))].image


def _class(target: str | int, labels: tuple[str, ...]) -> int:
    if isinstance(target, int) and 0 <= target < len(labels):
        return target
    if str(target) in labels:
        return labels.index(str(target))
    raise AdvfoolError(
        f"gallery: there is no class '{target}' among {len(labels)}. Close to it: {nearest(str(target), list(labels))}."
    )
