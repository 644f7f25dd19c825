"""The files of a run folder: their names, and how JSON is written and read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

STATUS = "status.json"  # the outcome of a run in a sweep


def write_json(path: Path, content: dict) -> None:
    """Strict JSON (no NaN), readable by people; nobody finds half of it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    part.replace(path)


def read_json(path: Path) -> dict | None:
    """A file's content; None where it is missing or was cut off while being written."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def value_at(tree: object, path: Sequence[str]) -> object:
    """What lies at a path in a tree of mappings, None where there is no such place."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
