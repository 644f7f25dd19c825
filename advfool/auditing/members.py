"""What an unfinished audit has found of the networks that detectors are judged by, one file each."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from advfool.auditing.detectors import DETECTORS
from advfool.auditing.notice import Member
from advfool.utilities.files import read_json, write_json
from advfool.utilities.text import file_name


def kept_members(folder: Path, audit: str) -> tuple[Callable[[str], Member | None], Callable[[str, Member], None]]:
    """Return what reads and what writes the description of a network, by its label.

    Args:
        folder: where the files are.
        audit: key of the audit; what belongs to another one is not read.
    """
    held = json.dumps([audit, *map(repr, DETECTORS)])
    key = hashlib.sha256(held.encode()).hexdigest()

    def path(label: str) -> Path:
        return folder / f"{file_name(label)}.json"

    def known(label: str) -> Member | None:
        found = read_json(path(label)) or {}
        member = found.get("member")
        return member if found.get("about") == key and isinstance(member, dict) and "scores" in member else None

    def found(label: str, member: Member) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path(label), {"about": key, "member": dict(member)})

    return known, found
