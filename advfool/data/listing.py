"""The class folders of a folder, and the pictures in them: links followed, hidden files and folders left out."""

import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from advfool.data.pictures import shown
from advfool.utilities.errors import AdvfoolError

# What other programs leave behind, in lower case; everything that starts with a dot as well.
LEFT_BEHIND = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"}


def class_folders(folder: Path) -> list[Path]:
    """List the folders in a folder that are not hidden, sorted.

    A link to a folder counts, unless it leads back to the folder itself or one that contains it.

    Raises:
        AdvfoolError: the folder cannot be listed.
    """
    above = _identities([folder, *_above(folder)])
    found = [entry for entry in _entries(folder) if _is_folder(entry)]
    return sorted(Path(entry.path) for entry in found if _identities([Path(entry.path)]).isdisjoint(above))


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures in a folder and the folders in it, sorted; a folder that several links lead to counts once.

    Links are followed, except to a folder that contains `folder`.

    Args:
        folder: of one class.

    Raises:
        AdvfoolError: a folder cannot be listed, or what is named like a picture is no regular file.
    """
    seen = _identities(_above(folder))
    found, folders, links = [], deque([folder]), deque[Path]()
    while folders or links:
        place = (folders or links).popleft()  # links last, so that a folder has its own name rather than a link's
        identity = _identities([place])
        if not seen.isdisjoint(identity):
            continue
        seen |= identity
        for entry in _entries(place):
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(Path(entry.path))
            elif entry.name.lower().endswith(IMG_EXTENSIONS):
                _check_regular(entry)
                found.append(Path(entry.path))
    return sorted(found)


def _entries(folder: Path) -> list[os.DirEntry]:
    """List what is in a folder and not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not _is_hidden(entry.name)]
    except OSError as error:
        raise AdvfoolError(
            f"Cannot list the folder '{shown(folder)}': {error.strerror}. Make it readable or remove it."
        ) from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _check_regular(entry: os.DirEntry) -> None:
    try:
        regular = entry.is_file()
    except OSError:
        regular = False
    if not regular:
        raise AdvfoolError(
            f"'{shown(entry.path)}' is named like a picture, but is a pipe, socket, device or broken link: expected a "
            "regular file. Remove it."
        )


def _above(folder: Path) -> set[Path]:
    """Return the folders that contain a folder, by the names it was given and by where it really is."""
    return {*folder.absolute().parents, *folder.resolve().parents}


def _identities(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Return device and number of the folders that exist, which are the same for all links to one."""
    found = set()
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found
