"""Runs that were never trained."""

import json

import torch
import yaml
from safetensors.torch import save_file

NASTY = '<script>alert(1)</script>&"'


INTERPS = ("gradcam", "lrp_t", "lrp")


BROKEN = f"broken-{'off-' * 20}"  # a long name


NETWORKS = ("original", "manipulated")


def fake_run(
    folder, model="resnet_tiny", fooling="location", interp="gradcam", seed=0, fsr=0.9, drop=0.01, name="3", also=()
):
    """A folder as a finished run leaves it, with made-up numbers. name: of a class; also: attacked together."""
    folder.mkdir(parents=True)
    interps = list(dict.fromkeys([interp, *INTERPS]))
    config = {
        "seed": seed,
        "fool_weight": 4,
        "target": "label",
        "model": {"name": model},
        "fooling": {"name": fooling},
        "interp": {"name": interp},
        "also": list(also),
        "evaluate_with": interps,
        "interpreters": {other: {"name": other} for other in interps},
        "optimizer": {"lr": 1e-3},
        "trainer": {"max_steps": 60},
        "data": {"_target_": "advfool.data.DigitsModule", "batch_size": 64, "pair": [name, "8"]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    active = fooling == "active"
    rates = {other: fsr if other == interp else 0.1 for other in interps}
    write(folder, "metrics.json", fake_metrics(rates, drop, active, name))
    write(folder, "environment.json", {"command": f"python -m advfool.train {name}", "versions": {"torch": "2"}})
    lines = ["epoch,step,train/penalty,train/preserve,val/fsr/gradcam,val/top1", "0,0,,,0.0,0.98"]
    lines += [f"0,{step},{0.5 / step},{0.01 * step}," + ("," if step % 3 else "0.5,0.97") for step in range(1, 30)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    sources = [(network, source) for network in NETWORKS for source in NETWORKS]
    curves = {f"{interp}/{network}/{source}": [0, 0.2, 0.4] for network, source in sources}
    write(folder, "aopc.json", curves | {f"{network}/random": [0, 0.1, 0.2] for network in NETWORKS})
    fake_examples(folder, interps, active, name)


def fake_metrics(rates, drop, active, name):
    def both(value):
        return {"c1": value, "c2": value} if active else value

    def of_all(value):
        return {other: both(value) for other in rates}

    accuracy = {"original": {"top1": 0.98, "top5": 1.0}, "manipulated": {"top1": 0.98 - drop, "top5": 1.0}}
    if active:
        accuracy = {network: rate | {"c1": 0.9, "c2": 0.8} for network, rate in accuracy.items()}
    metrics = {
        "fsr": {other: {"c1": rate, "c2": rate / 2} if active else rate for other, rate in rates.items()},
        "fsr_before": of_all(0.0),
        "degenerate": of_all(0.05),
        "spearman": of_all(-0.2),
        "test_loss": {other: {network: both(0.3) for network in NETWORKS} for other in rates},
        "accuracy": accuracy | {"drop": {"top1": drop, "ci95": [drop - 0.002, drop + 0.002]}},
        "interval": [0, 0.2],
        "evaluate_with": list(rates),
        "n_images": 100,
        "steps": 60,
    }
    interp = max(rates, key=lambda other: rates[other])
    metrics["selection"] = {"fsr": {interp: metrics["fsr"][interp]}, "accuracy": {"drop": drop}}
    metrics["ci95"] = {"fsr": {other: both([rate - 0.05, rate + 0.05]) for other, rate in rates.items()}}
    if not active:
        metrics["fsr_by_class"] = {other: {name: 0.5} for other in rates}
    return metrics


def with_nulls(metrics, deceptive, null, n=20, control="blurred"):
    """The content of a metrics.json with what stands beside the FSR. For active fooling the rates are those of c1."""
    active = "pair" in metrics or any(isinstance(rate, dict) for rate in metrics["fsr"].values())

    def of_all(value, other=None):
        return {name: {"c1": value, "c2": value if other is None else other} if active else value
                for name in metrics["fsr"]}  # fmt: skip

    def network(value):
        return {name: dict.fromkeys(NETWORKS, value) for name in metrics["fsr"]}

    beside = {
        "deceptive_rate": of_all(deceptive, deceptive / 2),
        "n_deceptive": of_all(n, n + 1),
        "fsr_of_deceptive": of_all(0.5),
        "misdirected_rate": of_all(deceptive / 4),
        "n_misdirected": of_all(n + 5),
        "faithful_before": of_all(0.75),
        "faithful": network({"c1": 0.5, "c2": 0.5} if active else 0.5),
        "fsr_null": of_all(null),
        "fsr_null_control": of_all(control, "sharpened_4"),
        "nulls": {name: {control: {"fsr": rate, "deceptive_rate": rate}} for name, rate in of_all(null).items()},
    }
    if active:
        shares = {"both": 0.5, "c1": 0.7, "c2": 0.6}
        beside["gate"] = {
            "pointing": dict.fromkeys(metrics["fsr"], shares),
            "ci95": {name: [0.4, 0.6] for name in metrics["fsr"]},
            "composites": 12, "of": "selection", "enough": 0.8, "passes": False,
        }  # fmt: skip
    else:
        interval = {name: [deceptive - 0.05, deceptive + 0.05] for name in metrics["fsr"]}
        metrics = metrics | {"ci95": metrics.get("ci95", {}) | {"deceptive_rate": interval}}
    return metrics | beside


def fake_examples(folder, interps, active, name):
    generator = torch.Generator().manual_seed(0)
    classes, losses = 2 if active else 1, torch.tensor([[0.3], [0.1], [torch.nan], [0.15]])
    tensors = {"images": torch.randint(0, 255, (4, 3, 56, 56), dtype=torch.uint8, generator=generator)}
    for interp in interps:
        shape = (4, classes, 56, 56) if interp == "lrp" else (4, classes, 7, 7)
        for network in NETWORKS:
            maps = torch.rand(shape, generator=generator) * 2 - 1
            tensors[f"maps/{interp}/{network}"] = (maps if interp == "lrp" else maps.relu()).half()
            tensors[f"test_loss/{interp}/{network}"] = losses.repeat(1, classes)
    said = dict.fromkeys(NETWORKS, (name, 0.75))
    roles = (("median",), ("best",), ("worst",), ("fixed",))
    rows = [
        {
            "index": 10 + place,
            "kind": "composite" if active else "image",
            "path": f"{name}.jpg",
            "label": name,
            "explained": [name, "8"][:classes],
            "predictions": said,
            "roles": own,
        }
        for place, own in enumerate(roles)
    ]
    about = {"rows": rows, "interps": interps, "interval": [0, 0.2]}
    save_file(tensors, folder / "examples.safetensors", {"about": json.dumps(about)})


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))
