"""What a run's files say, in the shape that a report expects: a damaged or hostile file costs its values, no more."""

import hashlib
from collections.abc import Mapping
from typing import Any

from advfool.reporting.settings import finite
from advfool.utilities.text import clean_texts, printable

VERDICTS = ("kept", "lost", "not shown")
NAMED = ("model", "fooling", "interp")  # keys of a configuration that have a name


def clean_name(name: str) -> str:
    """Return the name of a run fit for a page; different names stay different."""
    plain = printable(name)
    if plain == name:
        return name
    return f"{plain}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def clean_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a configuration, in which the model, the fooling and the interpreter have names."""
    found = clean_texts(config)
    for key in NAMED:
        node = found.get(key)
        named = dict(node) if isinstance(node, Mapping) else {}
        found[key] = named | {"name": str(named["name"]) if named.get("name") is not None else "unknown"}
    return found


def clean_metrics(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Copy the content of metrics.json without values of another kind than expected.

    Returns:
        the content; None where it has no FSR by interpreter, as a run that has not finished.
    """
    found = clean_texts(metrics or {})
    rates = found.get("fsr")
    if not isinstance(rates, Mapping):
        return None
    found["fsr"] = {str(interp): clean_rate(rate) for interp, rate in rates.items()}
    for key in ("accuracy", "ci95"):
        parts = found.get(key)
        if parts is not None:
            parts = parts if isinstance(parts, Mapping) else {}
            found[key] = {
                name: part for name, part in parts.items() if isinstance(part, Mapping) or _plain(key, name, part)
            }
    return found


def _plain(key: str, name: str, value: object) -> bool:
    """Tell whether a value that is no group of numbers belongs at this place."""
    if (key, name) == ("accuracy", "verdict"):
        return value in VERDICTS
    return key == "accuracy" and name in ("error_ratio", "margin") and finite(value) is not None


def clean_rate(rate: object) -> float | int | dict[str, float | int | None] | None:
    """Return a rate, or those of both classes, as finite numbers; None in place of anything else."""
    if isinstance(rate, Mapping):
        return {str(which): finite(value) for which, value in rate.items()}
    return finite(rate)
