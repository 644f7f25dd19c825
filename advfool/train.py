"""`python -m advfool.train`: fine-tunes a classifier so that its heatmaps lie, and measures how well they do."""

import json
from pathlib import Path

from omegaconf import DictConfig

from advfool.command import command


def result(folder: Path) -> float:
    """What the run in this folder returned."""
    from advfool.evaluating import headline

    metrics = json.loads((folder / "metrics.json").read_text())
    return headline(metrics, metrics["interp"])


@command("train", result)
def main(cfg: DictConfig) -> float:
    """One fine-tuning run; the FSR it returns is what a sweeper can optimise."""
    from advfool.training import train

    return train(cfg)


if __name__ == "__main__":
    main()
