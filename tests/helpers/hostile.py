"""Run folders as a stranger could make them, and canaries that say whether something was executed."""

import json
from pathlib import Path

import yaml

from advfool.models.tiny import Tiny
from advfool.models.weights import write_weights

INPUT = {
    "_target_": "advfool.data.InputFormat",
    "size": 56,
    "resize": 56,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bilinear",
}


def run_config(**changes: object) -> dict:
    """The configuration of a run with the tiny network; changes: values by dotted path, with `__` for the dot."""
    config = {
        "seed": 0,
        "target": "label",
        "fsr_images": 4,
        "fool_weight": 1,
        "cache": "/nowhere/cache",
        "model": {
            "_target_": "advfool.models.Tiny",
            "name": "resnet_tiny",
            "family": "resnet",
            "weights": None,
            "target_layer": "layer3.1",
            "layout": "nchw",
            "input": dict(INPUT),
        },
        "data": {
            "_target_": "advfool.data.DigitsModule",
            "cache": "/nowhere/cache",
            "batch_size": 8,
            "limit_train": 16,
            "limit_val": 4,
            "limit_test": 4,
        },
        "fooling": {"_target_": "advfool.foolings.Location", "name": "location", "mask": "frame"},
        "interp": {"_target_": "advfool.interpreters.SimpleGrad", "name": "simplegrad"},
        "aopc": {"images": 0, "steps": 4, "region": 9, "replacement": "uniform", "interpreters": None},
        "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3},
        "interpreters": {},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = config
        for key in parents:
            node = node[key]
        node[last] = value
    return config


def run_folder(folder: Path, config: dict | str | None = None) -> Path:
    """A folder as a finished run leaves it; config: a dictionary, or the text of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = run_config() if config is None else config
    text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
    (folder / "config.yaml").write_text(text)
    metrics = {"fsr": {"simplegrad": 0.5}, "accuracy": {"drop": {"top1": 0.0}}, "original_sha256": None}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    network = Tiny("resnet_tiny", family="resnet").create(10)
    write_weights(network, folder / "manipulated.safetensors", tuple("0123456789"))
    return folder


class Canary:
    """A file that appears as soon as anything of a folder is executed; its own modules would make it, too."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "executed"
        self.module = f"canary_{abs(hash(str(folder)))}"
        touch = f"open({str(self.file)!r}, 'w').close()"
        (folder / f"{self.module}.py").write_text(
            f"import os\nfrom os import system\n{touch}\nclass Net:\n    def __init__(self, **k):\n        {touch}\n"
        )

    @property
    def touch(self) -> str:
        """The shell's command that makes the file."""
        return f"touch {self.file}"

    @property
    def alive(self) -> bool:
        return not self.file.exists()
