"""Weights that torch.hub has downloaded: verified by the hash in their names, and read without running code."""

import hashlib
import pickle
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from advfool.utilities.errors import AdvfoolError

HASH = re.compile(r"-([a-f0-9]{8,})\.")  # the first digits of the file's SHA-256, in its name


def hub_file(url: str) -> Path:
    """Return the path at which torch.hub keeps a download."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def hub_weights(url: str) -> dict[str, Any]:
    """Download weights, or read them where they were downloaded before.

    torch.hub verifies a file only while it downloads it, and would run the code in one that was replaced since.

    Args:
        url: its last part holds the first digits of the file's SHA-256, as in `resnet50-0676ba61.pth`.

    Raises:
        AdvfoolError: the file that is there already is another one, or holds more than tensors.
        OSError: it cannot be downloaded.
        RuntimeError: the download is another file.
    """
    verify(hub_file(url))
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).splitlines()[0]
        raise AdvfoolError(f"'{hub_file(url)}' is not read: it holds more than tensors. {first}") from error


def verify(path: Path) -> None:
    """Raise an AdvfoolError where a file exists that has another SHA-256 than its name says."""
    expected = HASH.search(path.name)
    if expected is None or not path.exists():
        return
    if not path.is_file():
        raise AdvfoolError(f"'{path}': expected a file with weights, found something else. Remove it.")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected.group(1)):
        raise AdvfoolError(
            f"'{path}' is not the file that was published: its SHA-256 begins with {found[:8]}, expected "
            f"{expected.group(1)}. Remove it, so that it is downloaded again."
        )
