"""Folders of audits as the command leaves them, without the attacks."""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from advfool.auditing.suite import FOOLINGS
from advfool.models.weights import file_digest

SHA = "0123456789abcdef" * 4


def trial(attack="location", rate=0.95, drop=0.004, **changes):
    found = {"attack": attack, "slack": 1.0, "steps": 600, "outcome": "ran to its end", "seconds": 20.0}
    found["selection"] = {"deceptive_rate": rate, "fsr": rate, "top1_drop": drop, "agreement": 0.99}
    found["visits"] = [{"step": 30, "fsr": 0.0, "price": 0.5, "weight": 1.0}]
    return found | changes


def broken(rate=0.9, drop=0.004, **changes):
    """What a record holds of an interpreter that was broken."""
    ends = [round(rate - 0.04, 4), round(min(1.0, rate + 0.04), 4)]
    found = {
        "settings": "GradCAM(name='gradcam')",
        "honesty": {"faithful": 0.8, "degenerate": 0.0, "zero_gradient": 0.0, "images": 128},
        "trials": [trial(rate=rate)],
        "attack": "location",
        "deceptive_rate": rate,
        "ci95": ends,
        "n_deceptive": 219,
        "fsr": 1.0,
        "fsr_null": 0.0,
        "fsr_null_control": "blurred",
        "top1": {"original": 0.99, "manipulated": 0.99 - drop},
        "top1_drop": drop,
        "top1_drop_ci95": [drop - 0.004, drop + 0.004],
        "accuracy": "kept",
        "agreement": 0.99,
        "n_test": 1080,
        "transfer": {},
        "curve": [
            {"top1": 0.01, "attack": "location", "deceptive_rate": rate, "ci95": ends, "top1_drop": drop},
            {"top1": 0.02, "attack": "location", "deceptive_rate": 1.0, "ci95": [0.98, 1.0], "top1_drop": 0.011},
        ],
        "verdict": "broken by location",
        "manipulated_sha256": SHA,
        "seconds": 140.0,
    }
    return found | changes


def unattacked(verdict, **honesty):
    """What a record holds of an interpreter that was not attacked, or that nothing fooled."""
    empty = dict.fromkeys(("attack", "deceptive_rate", "ci95", "fsr", "fsr_null", "top1_drop", "accuracy"))
    found = {"faithful": 0.8, "degenerate": 0.0, "zero_gradient": 0.0, "images": 128} | honesty
    return {"honesty": found, "trials": [], "verdict": verdict, "seconds": 3.0} | empty


def record(interpreters=None, **changes):
    """The content of an audit.json."""
    found = {
        "schema": 1,
        "suite": "AM-1",
        "threat_model": "The attacker fine-tunes the network.",
        "budget": {"top1": 0.01, "agreement": 0.97},
        "settings": {
            "top1": 0.01,
            "trials": 6,
            "steps": 600,
            "seed": 0,
            "attacks": list(FOOLINGS),
        },
        "model": "resnet_tiny",
        "original_sha256": SHA,
        "data": "digits",
        "images": {"train": 15084, "selection": 360, "test": 1080},
        "data_sha256": {"train": SHA, "selection": SHA, "test": SHA},
        "classes": 10,
        "seed": 0,
        "environment": {
            "commit": "abc",
            "versions": {"advfool": "0.1.0"},
            "python": "3.11",
            "platform": "Linux",
            "threads": 1,
        },
        "repeat": "python -m advfool.audit 'interpreters=[gradcam]'",
        "interpreters": {"gradcam": broken()} if interpreters is None else interpreters,
    }
    whole = copy.deepcopy(found | changes)
    if "settings" not in changes:
        whole["settings"]["seed"] = whole["seed"]
    return whole


def audit_folder(folder: Path, content=None, weights=True) -> Path:
    """A folder with audit.json, a page and, of each broken interpreter, a file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    content = record() if content is None else content
    for name, found in content["interpreters"].items():
        if weights and found.get("attack") and "weights" not in found:
            path = folder / f"{name}.safetensors"
            save_file({"weight": torch.zeros(3)}, path)
            found["weights"] = {"file": path.name, "sha256": file_digest(path)}
    (folder / "audit.json").write_text(json.dumps(content))
    (folder / "audit.html").write_text("<!doctype html>")
    return folder
