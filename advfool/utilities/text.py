"""Texts that somebody else may have written, made fit for a terminal, a file name or a table."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

LONGEST = 100  # characters of a file name, and of a value in a message
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]", re.DOTALL)
_TURNING = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}  # reverse the order of what follows
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def printable(text: object) -> str:
    r"""Remove what commands a terminal: escape sequences, control characters and marks that turn the writing around.

    Args:
        text: any; line ends and tabs are kept, other control characters become a replacement character.

    >>> printable("a\x1b[2Jb\x1b]0;title\x07c")
    'abc'
    """
    plain = _ESCAPES.sub("", str(text))
    return plain if plain.isascii() and plain.isprintable() else "".join(map(_shown, plain))


def shortened(value: object, longest: int = LONGEST) -> str:
    """Return the text of a value on one line, cut where it is long, for a message.

    >>> shortened("a" * 9, 5)
    'aaaaa...'
    """
    text = " ".join(printable(value).split())
    return text if len(text) <= longest else f"{text[:longest]}..."


def clean_texts(tree: Any) -> Any:
    """Copy a tree of dictionaries and lists with all texts and keys printable."""
    if isinstance(tree, Mapping):
        return {clean_texts(key): clean_texts(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [clean_texts(value) for value in tree]
    return printable(tree) if isinstance(tree, str) else tree


def file_name(text: object) -> str:
    """Turn a name into one part of a path, which cannot lead anywhere else; different names stay different.

    >>> file_name("resnet_tiny"), file_name("../../etc/passwd")
    ('resnet_tiny', '_.._etc_passwd-3754d6cb')
    """
    original = str(text)
    plain = re.sub(r"[^A-Za-z0-9_.+=,-]+", "_", original).lstrip(".-")[:LONGEST]
    if plain and plain == original:
        return plain
    digest = hashlib.sha256(original.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain or 'name'}-{digest}"


def cell(text: object) -> str:
    """Return the text of a cell of a CSV file, with an apostrophe before what a spreadsheet would compute.

    >>> cell("=1+1"), cell("-0.5"), cell("resnet")
    ("'=1+1", '-0.5', 'resnet')
    """
    plain = printable(text)
    if not plain.lstrip(" \u00a0").startswith(_FORMULA) and not str(text).startswith(_FORMULA):
        return plain
    return plain if _is_number(plain) else f"'{plain}"


def link(path: str) -> str:
    """Turn a relative path into an address for a link."""
    return quote(os.fsencode(path))


def markdown(text: object) -> str:
    """Escape text for Markdown and its tables, on one line.

    >>> markdown("a|b_c <script>")
    'a\\\\|b\\\\_c &lt;script&gt;'
    """
    flat = " ".join(printable(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$]|(?<=:)/(?=/)|(?<=www)\.)", r"\\\1", flat)  # no address becomes a link


def _shown(character: str) -> str:
    kind = unicodedata.category(character)
    if character in "\n\t":
        return character
    return "\N{REPLACEMENT CHARACTER}" if kind in ("Cc", "Cs") or character in _TURNING else character


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", text) is not None
