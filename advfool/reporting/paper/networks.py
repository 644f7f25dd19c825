"""A finished run's networks, data and interpreters, built again to measure more."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from advfool.commands.setup import Parts, assemble
from advfool.reporting.runs import Run
from advfool.training.pretraining import with_pretrained_weights
from advfool.utilities.config import build
from advfool.utilities.errors import AdvfoolError


def open_run(run: Run) -> tuple[Parts, nn.Module]:
    """What the run's config describes, and its manipulated network, both on the CPU or on the GPU if there is one.

    Raises:
        AdvfoolError: the original network is no longer the one that the run started from.
    """
    cfg = OmegaConf.create(run.config)
    torch.manual_seed(run.seed)  # as the run did: networks without weights
    parts = assemble(cfg)
    expected = run.metrics.get("original_sha256")
    if expected not in (None, parts.original_sha256):
        raise AdvfoolError(f"The original network is not the one that '{run.folder}' started from: its weights differ.")
    manipulated = build(cfg.model, weights=str(run.folder / "manipulated.safetensors")).build(parts.data.classes)
    _still(parts.original)
    return parts, _still(manipulated)


def plain_network(run: Run, **model: object) -> nn.Module:
    """Another network of the run's kind: `model` are settings in place of the run's, e.g. other weights."""
    cfg = OmegaConf.merge(OmegaConf.create(run.config), {"model": model})
    source = with_pretrained_weights(build(cfg.model), cfg)
    classes = build(cfg.data, input=source.input_format()).classes
    return _still(source.build(classes))


def kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in a file, made now if there is none: what was measured once on a run is not measured again."""
    if not path.is_file():
        partial = path.with_suffix(".partial")
        save_file({name: value.contiguous() for name, value in make().items()}, partial)
        partial.rename(path)
    return load_file(path)


def settings_name(what: str, **settings: object) -> str:
    """The name of the file for `kept` that holds what was measured with these settings.

    >>> settings_name("aopc", images=256, steps=50)
    'aopc-images256-steps50-e684e8.safetensors'
    """
    told = "".join(f"-{key}{value}" for key, value in settings.items() if isinstance(value, int | float))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode()).hexdigest()[:6]
    return f"{what}{told}-{digest}.safetensors"


def _still(network: nn.Module) -> nn.Module:
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(False)
