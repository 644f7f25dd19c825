"""The audits that a leaderboard joins: their folders are found, and read as data that anybody may have written."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advfool.auditing.checking import disagreements
from advfool.auditing.record import RECORD, Record, read_record
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.stored import stored_file
from advfool.utilities.text import link, printable

PAGE = "audit.html"


@dataclass(frozen=True)
class Entry:
    """An audit of a leaderboard.

    Args:
        name: of its folder.
        record: what it found.
        address: of its page, relative to the leaderboard; None where it has none.
        agrees: whether the record agrees with itself and the rules.
    """

    name: str
    record: Record
    address: str | None
    agrees: bool


def read_entries(audits: Sequence[str], output: Path) -> list[Entry]:
    """Read audits.

    Args:
        audits: their folders, folders that they lie in at any depth, or patterns such as `runs/audit/*`.
        output: the folder that the leaderboard will be written to.

    Raises:
        AdvfoolError: there is no audit, or some cannot be read; the message names each.
    """
    entries, bad = [], []
    for folder in find_audits(audits):
        try:
            record, _ = read_record(folder)
            name, agrees = printable(folder.resolve().name), not disagreements(record)
            entries.append(Entry(name, record, _address(folder, output), agrees))
        except AdvfoolError as error:
            bad.append(str(error))
    if bad:
        listed = "\n".join(f"- {each}" for each in bad)
        raise AdvfoolError(f"audits: {len(bad)} cannot be used. Repair them, or leave them out:\n{listed}")
    return entries


def find_audits(audits: Sequence[str], key: str = "audits") -> list[Path]:
    """Find the folders with an audit.json, each once.

    Args:
        audits: see `read_entries`.
        key: what a message calls them.

    Raises:
        AdvfoolError: there is none behind one of them.
    """
    found: dict[Path, Path] = {}
    for text in audits:
        pattern = os.path.expanduser(text)
        places = [Path(pattern)] if Path(pattern).is_dir() else map(Path, sorted(glob.glob(pattern, recursive=True)))
        own = [folder for place in places if place.is_dir() for folder in _below(place)]
        if not own:
            raise AdvfoolError(
                f"{key}: expected the folder of an audit, or one with audits in it, found no '{RECORD}' in '{text}'. "
                "Make one: python -m advfool.audit"
            )
        found |= {folder.resolve(): folder for folder in own if folder.resolve() not in found}
    return list(found.values())


def _below(place: Path) -> list[Path]:
    """List a folder, if it is an audit's, or the folders of audits in it; links to folders are not followed."""
    if os.path.lexists(place / RECORD):
        return [place]
    return [Path(parent) for parent, _, names in sorted(os.walk(place)) if RECORD in names]


def _address(folder: Path, output: Path) -> str | None:
    """Return where the page of an audit lies, seen from the leaderboard; None where it is no file of the folder."""
    try:
        path = stored_file(folder, PAGE)
        return link(Path(os.path.relpath(path.absolute(), output.absolute())).as_posix())
    except (AdvfoolError, ValueError):  # on another drive
        return None
