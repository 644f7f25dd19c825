"""`python benchmarks/shelve.py RUN ORIGINAL`: puts the network of a run among those that come with the package.

RUN is a finished run of `python -m advfool.train model=... fooling=... interp=...`, ORIGINAL the file of the original
network's weights (a tiny network's lies in the cache, `weights/`).
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from advfool.models.base import NetworkSource
from advfool.models.weights import file_digest, fit_weights, read_classes, read_weights, weights_digest, write_weights
from advfool.utilities.config import build, plain
from advfool.utilities.files import read_json, write_json

SHELF = Path(__file__).parents[1] / "advfool" / "library" / "fooled"


def shelve(run: Path, original: Path) -> Path:
    """Write both files of weights and the card; return the card's path."""
    config = OmegaConf.load(run / "config.yaml")
    environment = read_json(run / "environment.json") or {}
    model, fooling, interp = config.model.name, config.fooling.name, config.interp.name
    name = f"{model}-{fooling}-{interp}"
    card = {
        "name": name,
        "model": model,
        "data": "digits",
        "fooling": fooling,
        "interpreter": interp,
        "seed": config.seed,
        "command": f"python -m advfool.train model={model} fooling={fooling} interp={interp}",
        **{key: environment[key] for key in ("commit", "versions", "python", "threads")},
        "target_layer": config.model.target_layer,
        "layout": config.model.layout,
        "input": {key: value for key, value in plain(config.model.input).items() if key != "_target_"},
        "classes": list(read_classes(run / "manipulated.safetensors") or ()),
        "weights": {},
    }
    source: NetworkSource = build(config.model, weights=None)
    for which, file in (("manipulated", run / "manipulated.safetensors"), ("original", original)):
        network = source.build(card["classes"])
        fit_weights(network, read_weights(file), str(file))
        path = SHELF / f"{name if which == 'manipulated' else model}.{which}.safetensors"
        write_weights(network, path, card["classes"])
        path.chmod(0o644)
        card["weights"][which] = {"file": path.name, "sha256": file_digest(path)}
        card[f"{which}_sha256"] = weights_digest(network)
    metrics = read_json(run / "metrics.json") or {}
    assert card["original_sha256"] == metrics["original_sha256"]
    write_json(SHELF / f"{name}.json", card | {"measured": measured(metrics, interp)})
    return SHELF / f"{name}.json"


def measured(metrics: dict, interp: str) -> dict:
    """Take the numbers of the card from metrics.json."""
    accuracy = metrics["accuracy"]
    return {
        "fsr": metrics["fsr"][interp],
        "fsr_ci95": metrics["ci95"]["fsr"][interp],
        "fsr_null": metrics["fsr_null"][interp],
        "fsr_of_others": {name: rate for name, rate in metrics["fsr"].items() if name != interp},
        "deceptive_rate": metrics["deceptive_rate"][interp],
        "deceptive_rate_ci95": metrics["ci95"]["deceptive_rate"][interp],
        "top1": {which: accuracy[which]["top1"] for which in ("original", "manipulated")},
        "top1_drop": accuracy["drop"]["top1"],
        "top1_drop_ci95": accuracy["drop"]["ci95"],
        "accuracy": accuracy["verdict"],
        "agreement": metrics["agreement"],
        "n_images": metrics["n_images"],
    }


if __name__ == "__main__":
    print(shelve(Path(sys.argv[1]), Path(sys.argv[2])))
