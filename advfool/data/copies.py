"""Pictures with the same content under several names, found by their sizes and then by their hashes."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

from advfool.data.pictures import open_regular, shown
from advfool.data.splitting import Item

log = logging.getLogger(__name__)
COMPARED = 50_000  # images up to which they are compared
LISTED = 10  # pairs in a message
_HEAD = 16 * 1024  # bytes of a file that are hashed before the whole is

Placed = tuple[str, Item]  # the split of a picture, its file and label


def report_copies(splits: Mapping[str, Sequence[Item]]) -> list[tuple[Placed, Placed]]:
    """Warn of pictures that have the same content and lie in different splits, or have different labels.

    Only files of the same size are read. More than 50,000 pictures are not compared.

    Args:
        splits: files and labels by the name of the split.

    Returns:
        The pairs that the warnings list.
    """
    placed = [(split, item) for split, items in splits.items() for item in items]
    if len(placed) > COMPARED:
        log.info("%d pictures are not compared with each other, as they are more than %d.", len(placed), COMPARED)
        return []
    groups: list[list[Placed]] = [placed]
    for key in (_size, _head, _whole):
        groups = [part for group in groups for part in _divided(group, key)]
    pairs = [(group[0], other) for group in groups for other in group[1:] if _conflict(group[0], other)]
    warn_of_pairs("in more than one split", [_names(pair) for pair in pairs if pair[0][0] != pair[1][0]])
    warn_of_pairs("in more than one class", [_names(pair) for pair in pairs if pair[0][1][1] != pair[1][1][1]])
    return pairs


def report_equal_images(splits: Mapping[str, tuple[Callable[[Sequence[int]], tuple], Sequence[int]]]) -> None:
    """Warn of images in memory that are equal and lie in different splits.

    More than 50,000 images are not compared.

    Args:
        splits: by name, what reads the image at a position, and the positions of the split.
    """
    if sum(len(positions) for _, positions in splits.values()) > COMPARED:
        return
    first: dict[bytes, tuple[str, int]] = {}
    pairs = []
    for split, (read, positions) in splits.items():
        for position in positions:
            content = read([position])[0].cpu().contiguous().view(torch.uint8).numpy().tobytes()
            known = first.setdefault(hashlib.sha256(content).digest(), (split, position))
            if known[0] != split:
                pairs.append((f"{known[0]} {known[1]}", f"{split} {position}"))
    warn_of_pairs("in more than one split", pairs)


def warn_of_pairs(where: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Warn of pictures with the same content, if there are any.

    Args:
        where: says where both of a pair are.
        pairs: the names of both.
    """
    if pairs:
        listed = "; ".join(f"{first} = {second}" for first, second in pairs[:LISTED])
        more = f"; and {len(pairs) - LISTED} more" if len(pairs) > LISTED else ""
        log.warning(
            "%d pictures are %s, so that results may be better than on new pictures: %s%s. Remove one of each pair.",
            len(pairs),
            where,
            listed,
            more,
        )


def _conflict(first: Placed, second: Placed) -> bool:
    return first[0] != second[0] or first[1][1] != second[1][1]


def _divided(group: Iterable[Placed], key: Callable[[Path], Hashable]) -> list[list[Placed]]:
    """Divide pictures by a key, and keep the parts with pictures of several splits or labels."""
    parts: dict[Hashable, list[Placed]] = defaultdict(list)
    for placed in group:
        try:
            parts[key(placed[1][0])].append(placed)
        except OSError:
            continue  # reading the picture says what is wrong with it
    return [part for part in parts.values() if any(_conflict(part[0], other) for other in part[1:])]


def _size(path: Path) -> int:
    return path.stat().st_size


def _head(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read(_HEAD)


def _whole(path: Path) -> bytes:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _names(pair: tuple[Placed, Placed]) -> tuple[str, str]:
    first, second = (f"{split} '{shown(path)}'" for split, (path, _) in pair)
    return first, second
