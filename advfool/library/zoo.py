"""Fooled networks that come with the package: weights, and a card for each that says what it is."""

import json
import re
from fnmatch import fnmatch
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

from safetensors.torch import load
from torch import nn

from advfool.library.interpreters import list_foolings, list_interpreters, list_models
from advfool.models.base import NetworkSource
from advfool.models.weights import fit_weights
from advfool.utilities.checking import checked
from advfool.utilities.config import build_named
from advfool.utilities.errors import AdvfoolError, nearest
from advfool.utilities.modules import copied

Which = Literal["manipulated", "original"]


@checked
def list_fooled(pattern: str = "*") -> list[str]:
    """List the fooled networks that come with the package, for `load_fooled`; `fooled_card` says what each is.

    Args:
        pattern: keeps the names that match it; `*` and `?` are wildcards.

    >>> list_fooled("resnet*")
    ['resnet_tiny-location-gradcam']
    """
    names = sorted(path.name.removesuffix(".json") for path in _shelf().iterdir() if path.name.endswith(".json"))
    return [name for name in names if fnmatch(name, pattern)]


@checked
def fooled_card(name: str) -> dict[str, Any]:
    """Return the card of a fooled network that comes with the package.

    Args:
        name: see `list_fooled`.

    Returns:
        what it is: the network, data, fooling and interpreter, the `command` that made it, with commit and versions,
        the format of its images (`input`), its classes and target layer, the SHA-256 of both files of weights, and what
        was `measured` of it on test images.

    Raises:
        AdvfoolError: there is no such network.

    >>> fooled_card("resnet_tiny-location-gradcam")["measured"]["fsr"]
    1.0
    """
    if name not in list_fooled():
        raise unknown(name)
    return json.loads((_shelf() / f"{name}.json").read_text(encoding="utf-8"))


def shipped(name: str, which: Which, model: nn.Module | None = None) -> nn.Module:
    """Load a network that comes with the package; its file has to have the SHA-256 of its card.

    Args:
        name: see `list_fooled`.
        which: the manipulated or the original network.
        model: a network of the same architecture, whose copy is filled; None: it is built.

    Raises:
        AdvfoolError: there is no such network, its file is damaged, or the weights do not fit `model`.
    """
    card = fooled_card(name)
    file = card["weights"][which]
    content = (_shelf() / file["file"]).read_bytes()
    if sha256(content).hexdigest() != file["sha256"]:
        raise AdvfoolError(
            f"load_fooled: '{file['file']}' of the package is damaged: its SHA-256 is not the one of its card. Install "
            "advfool again."
        )
    if model is not None:
        network = copied(model)
    else:
        source: NetworkSource = build_named("model", card["model"], {}, weights=None)
        network = source.build(card["classes"])
    fit_weights(network, load(content), name)
    return network.eval()


def unknown(name: str) -> AdvfoolError:
    """Describe a fooled network that does not come with the package; one that can be made, with the command."""
    if command := recipe(name):
        return AdvfoolError(
            f"load_fooled: '{name}' does not come with the package. Make it (Location, Top-k and Center-mass on tiny "
            f"networks take a few minutes): {command}; then load it: advfool.load_fooled('runs/{name}')."
        )
    names = list_fooled()
    return AdvfoolError(
        f"load_fooled: there is no folder and no fooled network '{name}'. These come with the package: "
        f"{nearest(name, names, len(names))}. Others are called MODEL-FOOLING-INTERPRETER and are made by a command; "
        "see list_models(), list_foolings() and list_interpreters()."
    )


def is_name(text: str) -> bool:
    """Tell whether a text is meant as a name, and not as the path of a folder."""
    return re.fullmatch(r"\w[\w-]*", text) is not None


def recipe(name: str) -> str | None:
    """Return the command that makes a fooled network named MODEL-FOOLING-INTERPRETER; None for other names."""
    parts = name.split("-")
    if len(parts) != 3:
        return None
    model, fooling, interp = parts
    if model not in list_models() or fooling not in list_foolings() or interp not in list_interpreters():
        return None
    return f"python -m advfool.train model={model} fooling={fooling} interp={interp} hydra.run.dir=runs/{name}"


def _shelf() -> Traversable:
    return files("advfool.library").joinpath("fooled")
