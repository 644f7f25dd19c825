"""The networks, data and interpreters of a finished run, built again to measure more on them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from advfool.commands.pretrained import with_pretrained_weights
from advfool.commands.setup import build_setup
from advfool.evaluation.setup import Setup
from advfool.reporting.runs import Run
from advfool.utilities.config import as_config, build
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import WEIGHTS, cached
from advfool.utilities.stored import stored_file, stored_path

USED = (  # keys of a run's configuration that a setup is built from
    *("model", "data", "fooling", "interp", "interpreters", "imports", "aopc", "accuracy"),
    *("faithfulness", "nulls", "target", "seed", "fsr_images", "pictures", "cache"),
)


def open_run(run: Run) -> tuple[Setup, nn.Module]:
    """Build again what a run was about, and its manipulated network.

    Args:
        run: finished.

    Returns:
        the run's setup and the manipulated network; both networks are on the GPU if there is one.

    Raises:
        AdvfoolError: the run has not finished, or the original network is no longer the one that it started from.
    """
    expected = run.results.get("original_sha256")
    torch.manual_seed(run.seed)  # as the run did: a network without weights is drawn at random
    built = build_setup(as_config(run.described(*USED)))
    setup = built.setup
    if expected not in (None, setup.original_sha256):
        raise AdvfoolError(f"The original network is not the one that '{run.folder}' started from: its weights differ.")
    manipulated = replace(built.source, weights=str(stored_file(run.folder, WEIGHTS))).build(setup.data.classes)
    _prepared(setup.original)
    return setup, _prepared(manipulated)


def other_network(run: Run, **model: object) -> nn.Module:
    """Build another network of a run's kind.

    Args:
        run: whose model and data are used.
        model: settings of the model in place of the run's, such as other weights.
    """
    cfg = as_config(run.described(*USED), {"model": model})
    source = with_pretrained_weights(build(cfg.model), cfg)
    return _prepared(source.build(build(cfg.data, input=source.input_format()).classes))


def measured_once(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read tensors from a file, which is written first if there is none.

    Args:
        path: the file; its name tells what was measured, see `settings_name`.
        make: measures the tensors.
    """
    path = stored_path(path.parent, path.name)
    return load_file(cached(path, lambda part: save_file({key: t.contiguous() for key, t in make().items()}, part)))


def settings_name(what: str, **settings: object) -> str:
    """Name the file that holds what was measured with some settings.

    Args:
        what: was measured.
        settings: all settings that change the result.

    >>> settings_name("aopc", images=256, steps=50)
    'aopc-images256-steps50-e684e8.safetensors'
    """
    shown = "".join(f"-{key}{value}" for key, value in settings.items() if isinstance(value, int | float))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode()).hexdigest()[:6]
    return f"{what}{shown}-{digest}.safetensors"


def _prepared(network: nn.Module) -> nn.Module:
    """Move a network to the GPU, if there is one, and make it ready for measurements."""
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(False)
