"""Tells in words which detectors notice a fooled network."""

from collections.abc import Mapping
from typing import Any

CHANCE = 0.05  # a detector notices where chance would separate the groups as well less often than that


def noticed(record: Mapping[str, Any]) -> str:
    """Say in a sentence or two which detectors tell the fooled networks from honest ones.

    Args:
        record: the contents of audit.json, perhaps of somebody else.
    """
    found = record.get("detectors") or {}
    if not found:
        return "No interpreter was broken, so there is nothing to notice."
    level = CHANCE / len(found)  # Bonferroni: among many detectors one looks good by chance
    apart = {name: each for name, each in found.items() if each["auc"] > 0.5 and _p(each) < level}
    others = {name: each for name, each in found.items() if name not in apart}
    fooled, honest = (max(each.get(group) or 0 for each in found.values()) for group in ("fooled", "honest"))
    groups = f"{fooled} fooled networks from {honest} honest fine-tunes"
    if not apart:
        return f"No: none of {len(found)} detectors tells {groups} ({_listed(others)})."
    verb = "tells" if len(apart) == 1 else "tell"
    rest = f" Not so {_listed(others)}." if others else ""
    return f"Yes, with the right detector: {_listed(apart)} {verb} {groups}.{rest}"


def digits(value: float | None) -> str:
    """Write a number with two significant digits; a dash where there is none."""
    return "-" if value is None else f"{value:.2g}"


def _p(detector: Mapping[str, Any]) -> float:
    p = detector.get("p")
    return 1.0 if p is None else p


def _listed(detectors: Mapping[str, Mapping[str, Any]]) -> str:
    """List detectors with what they reach, the best first."""
    order = sorted(detectors.items(), key=lambda each: -each[1]["auc"])
    return ", ".join(f"{name} (AUC {each['auc']:.2f}, p = {digits(each.get('p'))})" for name, each in order)
