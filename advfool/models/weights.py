"""Read and write weights safely: state dicts in safetensors files, or in torch files that hold no code."""

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from advfool.models.containers import state_dict_in
from advfool.models.prefixes import with_prefixes, without_prefixes
from advfool.models.values import check_kinds, check_values
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import replacing

UNREADABLE = (Exception,)  # torch.load and safetensors raise errors of any kind for damaged files


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, a torch file or a checkpoint of Lightning, timm and others.

    Args:
        path: the file; `~` stands for the home folder.

    Returns:
        The tensors by name.

    Raises:
        AdvfoolError: the file is missing, holds no state dict, or would run code when loaded.
    """
    path = Path(str(path)).expanduser()
    _check_file(path)
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise AdvfoolError(
            f"'{path}' is not a safe weights file: expected safetensors, or a torch file with tensors only (read with "
            f"weights_only=True), got: {_reason(error)}. Save it again with torch.save(network.state_dict(), path)."
        ) from error
    return state_dict_in(content, str(path), path.suffix == ".ckpt")


def _check_file(path: Path) -> None:
    try:
        exists, regular = path.exists(), path.is_file()
    except OSError as error:
        raise AdvfoolError(f"model.weights: '{path}' cannot be read: {error.strerror}.") from error
    if not regular:
        found = f"'{path}' is no regular file, but a folder, pipe or device" if exists else f"no file '{path}'"
        raise AdvfoolError(
            f"model.weights: {found}. Expected the path of a state dict (.safetensors, .pt, .pth), the name "
            "of pretrained weights (IMAGENET1K_V1), or null for an untrained network."
        )


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # whose message recommends to load it in spite of that
        return "no torch file, or one with other objects than tensors, which could run code"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def read_classes(path: str | Path) -> tuple[str, ...] | None:
    """Read the class names that `write_weights` put into a safetensors file, in the order of the outputs.

    Args:
        path: the file.

    Returns:
        The names, or None for another kind of file and where it has none.

    Raises:
        AdvfoolError: the file cannot be read, or the names are no list of texts.
    """
    if Path(path).suffix != ".safetensors":
        return None
    place = Path(path).expanduser()
    _check_file(place)
    try:
        with safe_open(place, framework="pt") as file:
            stated = (file.metadata() or {}).get("classes")
        names = json.loads(stated) if stated else None
    except UNREADABLE as error:
        raise AdvfoolError(f"'{path}' is not a safe weights file: {_reason(error)}. Save it again.") from error
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AdvfoolError(f"'{path}' states its classes as {names!r:.80}: expected a list of names. Save it again.")
    return tuple(names)


def write_weights(network: nn.Module, path: Path, classes: Sequence[str]) -> None:
    """Write a network's state dict as safetensors, which torchvision's own networks can load.

    The same weights give the same file: safetensors writes several entries of metadata in any order, one in one.

    Args:
        network: whose parameters and buffers are written.
        path: the file, which is written completely or not at all.
        classes: names of the outputs, which are written into the metadata.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    with replacing(path) as part:
        save_file(tensors, part, metadata={"classes": json.dumps(list(classes))})


def weights_digest(network: nn.Module) -> str:
    """Hash the network's parameters and buffers, with their names, shapes and types."""
    content = hashlib.sha256()
    for name, value in network.state_dict().items():
        content.update(repr((name, tuple(value.shape), value.dtype)).encode())
        content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()


def file_digest(path: Path) -> str:
    """Hash a file, as `sha256sum` does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fit_weights(
    network: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Load weights into a network, without the prefixes of wrappers (`module.`, `model.`) where they fit only so.

    Args:
        network: which is changed.
        state: tensors by name.
        source: what the message calls the weights.
        adapt: renames what an older version of the architecture has named otherwise.

    Raises:
        AdvfoolError: keys are missing or unexpected, shapes differ, or a tensor is sparse, quantised, without values,
            of integers in place of floats, or not finite; the message names them.
    """
    check_kinds(state, source)
    fitted = adapt(dict(state))
    found = misfits(network, fitted)
    if found:
        own = network.state_dict()
        renamed = with_prefixes(adapt(without_prefixes(state, own, source)), own)
        fitted, found = renamed, misfits(network, renamed)
    if found:
        raise AdvfoolError(
            f"The weights in {source} do not fit {type(network).__name__}: {found}. "
            "Give weights of the same architecture with as many classes as the data."
        )
    check_values(network, fitted, source)
    network.load_state_dict(fitted, strict=False)


def misfits(network: nn.Module, state: Mapping[str, Tensor]) -> str:
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
