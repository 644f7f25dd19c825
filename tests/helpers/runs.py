"""Runs of the paper's grid with made-up numbers."""

from pathlib import Path

from advfool.reporting.runs import Run

FSR = {0: 0.90, 1: 0.92, 2: 0.97}  # by seed


def config(model="vgg_tiny", fooling="location", interp="lrp_t", seed=0, fool_weight=4, **more) -> dict:
    return {
        "model": {"name": model},
        "fooling": {"name": fooling},
        "interp": {"name": interp},
        "seed": seed,
        "fool_weight": fool_weight,
        "optimizer": {"lr": 1e-3},
        "trainer": {"max_steps": 600},
        "data": {"_target_": "advfool.data.DigitsModule", "batch_size": 32},
        "target": "label",
        **more,
    }


def a_run(number: int = 0, fsr: float | None = None, **settings) -> Run:
    settings = config(**settings)
    rate = FSR[settings["seed"]] if fsr is None else fsr
    interps = ("gradcam", "lrp_t", "simplegrad_t", "lrp")
    active = settings["fooling"]["name"] == "active"
    metrics = {
        "fsr": {name: {"c1": rate, "c2": rate / 2} if active else rate for name in interps},
        "accuracy": {
            "original": {"top1": 0.99, "top5": 1.0, "c1": 1.0, "c2": 0.98},
            "manipulated": {"top1": 0.98 - settings["seed"] / 100, "top5": 1.0, "c1": 0.97, "c2": 0.96},
        },
    }
    return Run(Path(f"/runs/{number}"), str(number), settings, metrics, {"python": "3.11", "commit": "abc"})


def grid(**settings) -> list[Run]:
    return [a_run(seed, seed=seed, **settings) for seed in FSR]
