"""Read and write weights safely: state dicts in safetensors files, or in torch files that hold no code."""

import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from advfool.utilities.errors import AdvfoolError

UNREADABLE = (SafetensorError, pickle.UnpicklingError, BadZipFile, OSError, EOFError, RuntimeError, LookupError)
UNREADABLE += (ValueError, TypeError, AttributeError)  # raised by torch.load for damaged files


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, a torch file or a Lightning checkpoint of advfool.

    Args:
        path: the file; `~` stands for the home folder.

    Returns:
        The tensors by name.

    Raises:
        AdvfoolError: the file is missing, holds no state dict, or would run code when loaded.
    """
    path = Path(str(path)).expanduser()
    if not path.is_file():
        raise AdvfoolError(
            f"model.weights: no file '{path}'. Expected the path of a state dict (.safetensors, .pt, .pth), the name "
            "of pretrained weights (IMAGENET1K_V1), or null for an untrained network."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise AdvfoolError(
            f"'{path}' is not a safe weights file: expected safetensors, or a torch file with tensors only (read with "
            f"weights_only=True), got: {str(error).splitlines()[0] if str(error) else type(error).__name__}. "
            "Save it again with torch.save(network.state_dict(), path)."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
        prefix = "network."
        if any(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise AdvfoolError(
            f"'{path}' holds {type(content).__name__}, not a state dict of tensors. "
            "Save it again with torch.save(network.state_dict(), path)."
        )
    return content


def read_classes(path: str | Path) -> tuple[str, ...] | None:
    """Read the class names that `write_weights` put into a safetensors file, in the order of the outputs.

    Args:
        path: the file.

    Returns:
        The names, or None for another kind of file and where it has none.
    """
    if Path(path).suffix != ".safetensors":
        return None
    with safe_open(Path(path).expanduser(), framework="pt") as file:
        names = (file.metadata() or {}).get("classes")
    return tuple(json.loads(names)) if names else None


def write_weights(network: nn.Module, path: Path, classes: Sequence[str]) -> None:
    """Write a network's state dict as safetensors, which torchvision's own networks can load.

    Args:
        network: whose parameters and buffers are written.
        path: the file, which is written completely or not at all.
        classes: names of the outputs, which are written into the metadata.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"classes": json.dumps(list(classes)), "format": "pt"})
    part.replace(path)


def weights_digest(network: nn.Module) -> str:
    """Hash the network's parameters and buffers, with their names, shapes and types."""
    content = hashlib.sha256()
    for name, value in network.state_dict().items():
        content.update(repr((name, tuple(value.shape), value.dtype)).encode())
        content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()


def fit_weights(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load weights into a network.

    Args:
        network: which is changed.
        state: tensors by name.
        source: what the message calls the weights.

    Raises:
        AdvfoolError: keys are missing or unexpected, or shapes differ; the message lists them.
    """
    found = misfits(network, state)
    if found:
        raise AdvfoolError(
            f"The weights in {source} do not fit {type(network).__name__}: {found}. "
            "Give weights of the same architecture with as many classes as the data."
        )
    network.load_state_dict(state, strict=False)


def misfits(network: nn.Module, state: dict[str, Tensor]) -> str:
    """Describe the keys of a state dict that are missing, unexpected or of another shape.

    Args:
        network: that the weights shall be loaded into.
        state: tensors by name.

    Returns:
        The description, which is empty if the weights fit.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key}: network {tuple(own[key].shape)}, file {tuple(state[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(f"{len(keys)} {word} ({_some(keys)})" for word, keys in problems if keys)


def _some(keys: list[str], limit: int = 5) -> str:
    return ", ".join(keys[:limit]) + (", ..." if len(keys) > limit else "")
