"""The first part of an audit's record: what was audited, against whom, and within which limits."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from advfool.auditing.record import VERSION
from advfool.auditing.suite import NAME, AuditSettings
from advfool.data.reserving import WithMoreSelection
from advfool.evaluation.setup import Setup
from advfool.training.multiplier import DISAGREEMENT

THREAT_MODEL = (
    "The attacker has the network with its weights, knows the interpreter and its settings, and has training images. "
    "The attacker may change every weight of the network by fine-tuning it, but neither its architecture, nor the "
    "interpreter, nor any image that is explained; on selection images, which are not trained on, no more accuracy may "
    "be lost than the budget, and no more than three times as many predictions may change. The attacker has not seen "
    "the test images. The auditor sees the predictions and the heatmaps of the network that is handed over, and not "
    "the original network."
)


def about(setup: Setup, settings: AuditSettings, data: str) -> dict[str, Any]:
    """Describe an audit for audit.json: the suite, the threat model, the budget, the data and the network.

    Args:
        setup: what is audited.
        settings: of the audit.
        data: name of the data.
    """
    measured = {f"faithfulness.{name}": value for name, value in asdict(setup.settings.faithfulness).items()}
    pair = None if None in setup.data.pair else [str(each) for each in setup.data.pair]
    chosen = {"attacks": list(settings.attacks), "target": setup.settings.target, "pair": pair}
    splits = {"train": setup.data.train(), "selection": setup.data.selection(), "test": setup.data.test()}
    return {
        "schema": VERSION,
        "suite": NAME,
        "threat_model": THREAT_MODEL,
        "budget": {"top1": settings.top1, "agreement": max(0.0, 1 - DISAGREEMENT * settings.top1)},
        "settings": asdict(settings) | chosen | measured,
        "model": setup.model,
        "original_sha256": setup.original_sha256,
        "data": data,
        "images": {name: len(each) for name, each in splits.items()},
        "moved_to_selection": setup.data.moved if isinstance(setup.data, WithMoreSelection) else 0,
        "data_sha256": {name: each.digest() for name, each in splits.items()},
        "classes": len(setup.data.classes),
        "seed": settings.seed,
    }


def python_call(options: Mapping[str, object]) -> str:
    """Write the call of `advfool.audit_interpreters` that repeats an audit of a network and data of one's own."""
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"advfool.audit_interpreters(model, dataset, {given})"
