"""Read the files of a folder that somebody else may have written: as data, within limits, and nothing outside of it."""

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from advfool.utilities.errors import AdvfoolError

LARGEST = 64 * 2**20  # bytes of a JSON or CSV file
LARGEST_CONFIG = 2 * 2**20  # bytes of a YAML file
DEEPEST = 50  # levels of a tree
FILLED = (".hydra", "checkpoints")  # folders in a run's folder whose files a command writes
WRITTEN = (*FILLED, "wandb", "tensorboard", "paper")
FILES = (".json", ".yaml", ".csv", ".log", ".lock", ".part", ".png", ".parquet", ".safetensors", ".ckpt")  # of a run
MOST = 200_000  # keys, values and brackets of a YAML file


def stored_path(folder: Path, name: str | Path) -> Path:
    """Return the path of a file or folder in a run's folder, which need not exist.

    Args:
        folder: of the run.
        name: relative to it.

    Raises:
        AdvfoolError: the name or a link leads out of the folder.
    """
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a NUL in the name
        raise AdvfoolError(f"'{path}' cannot be opened: {error}.") from error
    if not inside:
        raise AdvfoolError(
            f"'{path}' leads out of the folder '{folder}', to '{path.resolve()}': expected a file in the folder. "
            "Files outside of a run's folder are not opened through it; copy the file into the folder if it is yours."
        )
    return path


def free_path(folder: Path, name: str | Path) -> Path:
    """Return the path of a file that is going to be written into a folder.

    Raises:
        AdvfoolError: a link of this name leads out of the folder, or there is something that is no file.
    """
    path = stored_path(folder, name)
    if path.exists() and not path.is_file():
        raise AdvfoolError(f"'{path}' shall be written, but is something that is no file. Remove it.")
    return path


def stored_file(folder: Path, name: str | Path) -> Path:
    """Return the path of a regular file in a run's folder.

    Raises:
        AdvfoolError: there is no such file, a link leads out of the folder, or it is a pipe, a socket or a device.
    """
    path = stored_path(folder, name)
    if not path.is_file():
        found = "something that is no file" if path.exists() else "nothing"
        raise AdvfoolError(f"'{path}': expected a file, found {found}.")
    return path


def stored_bytes(folder: Path, name: str | Path, largest: int = LARGEST) -> bytes:
    """Read a file in a run's folder.

    Args:
        folder: of the run.
        name: of the file.
        largest: number of bytes that the file can have.

    Raises:
        AdvfoolError: the file is missing or too large, a link leads out of the folder, or it is no regular file.
    """
    path = stored_file(folder, name)
    try:
        # Without waiting: the file may have become a pipe.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise AdvfoolError(f"'{path}': expected a file, found something else.")
            content = file.read(largest + 1)
    except OSError as error:
        raise AdvfoolError(f"'{path}' cannot be read: {error}.") from error
    if len(content) > largest:
        raise AdvfoolError(f"'{path}' is too large: expected at most {largest // 2**20} MB.")
    return content


def refuse_links_out(folder: Path, root: Path | None = None) -> None:
    """Raise an AdvfoolError where a link somewhere in a folder leads out of it.

    Args:
        folder: with all that is below it.
        root: where links may lead to; None: into `folder`.
    """
    for parent, folders, files in os.walk(folder.resolve()):
        for name in (*folders, *files):
            _check_entry(Path(parent, name), root or folder)


def check_writable(folder: Path, links: bool = True) -> None:
    """Raise an AdvfoolError where a command that writes a run into a folder would write somewhere else, or could not.

    Args:
        folder: which may hold an earlier run, or not exist yet.
        links: whether links to other folders may lie beside the run, such as one to data.
    """
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if not (links and entry.is_symlink() and entry.is_dir() and entry.name not in WRITTEN):
            _check_entry(entry, folder)
        _check_kind(entry, entry.name in WRITTEN)
    for name in FILLED:
        if (folder / name).is_dir():
            refuse_links_out(folder / name, folder)
            for entry in (folder / name).iterdir():
                _check_kind(entry, False)


def _check_entry(path: Path, root: Path) -> None:
    """Raise an AdvfoolError where a path is a link that leads out of a folder, a pipe, a socket or a device."""
    if path.is_symlink():
        stored_path(root, path.absolute())
    elif not (path.is_file() or path.is_dir()) and path.exists():
        raise AdvfoolError(f"'{path}' is no file and no folder, but a pipe, a socket or a device. Remove it.")


def _check_kind(path: Path, is_folder: bool) -> None:
    """Raise an AdvfoolError where a folder has the name of a file that a run writes, or the reverse."""
    wrong = path.is_file() if is_folder else path.is_dir() and f".{path.name.rpartition('.')[2]}" in FILES
    if wrong:
        kinds = ("a file", "a folder") if is_folder else ("a folder", "a file")
        raise AdvfoolError(
            f"'{path}' is {kinds[0]}, but a run writes {kinds[1]} of this name. Remove it, or choose another folder."
        )


def stored_yaml(folder: Path, name: str | Path) -> dict[str, Any]:
    """Read a configuration from a run's folder as dictionaries and lists; interpolations stay texts.

    Raises:
        AdvfoolError: the file cannot be read, is damaged or holds no keys with values; it has aliases or tags, which
            no configuration of advfool has; or it is too large or too deep.
    """
    path = folder / name
    try:
        text = stored_bytes(folder, name, LARGEST_CONFIG).decode()
        _check_events(text)
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AdvfoolError(f"'{path}' cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise AdvfoolError(f"'{path}' is expected to hold keys with values.")
    return content


def stored_json(folder: Path, name: str | Path, largest: int = LARGEST) -> dict[str, Any]:
    """Read a JSON object from a run's folder.

    Args:
        folder: of the run.
        name: of the file.
        largest: number of bytes that the file can have.

    Raises:
        AdvfoolError: the file cannot be read, is damaged, too large or too deep, holds something else than an object,
            or a number that is not finite.
    """
    path = folder / name
    try:
        text = stored_bytes(folder, name, largest).decode()
        content = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise AdvfoolError(f"'{path}' is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise AdvfoolError(f"'{path}' is damaged: expected a JSON object.")
    if _depth(content) > DEEPEST:
        raise AdvfoolError(f"'{path}' is damaged: more than {DEEPEST} levels.")
    return content


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Read what OmegaConf writes: `1e-3` is a number, a date is a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _check_events(text: str) -> None:
    """Raise a ValueError where a YAML text would grow when it is read, or would be more than texts and numbers."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError("it has an alias (& or *), which no configuration that advfool writes has")
        if getattr(event, "tag", None):
            raise ValueError(f"it has a tag ({event.tag}), which no configuration that advfool writes has")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or count > MOST:
            raise ValueError(f"it has more than {DEEPEST} levels or {MOST} entries")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is not finite")
    return value


def _integer(text: str) -> int:
    if len(text) > 18:  # larger than what 64 bits hold
        raise ValueError(f"the number {text[:18]}... is too large")
    return int(text)


def _depth(tree: object) -> int:
    """Count the levels of a tree, without recursion."""
    deepest, left = 0, [(tree, 1)]
    while left:
        node, depth = left.pop()
        deepest = max(deepest, depth)
        left += [(child, depth + 1) for child in _children(node)]
    return deepest


def _children(node: object) -> Iterator[object]:
    if isinstance(node, dict):
        yield from node.values()
    elif isinstance(node, list):
        yield from node
