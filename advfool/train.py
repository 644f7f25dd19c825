"""`python -m advfool.train`: fine-tunes a classifier so that its heatmaps lie, and measures how well they do."""

import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from advfool.commands.cli import command
from advfool.commands.sweep import Sweep


def objectives(metrics: dict) -> float | tuple[float, float]:
    """What a sweeper optimises: the FSR under the interpreter trained with, and, if it asks for two, the top-1 drop."""
    from hydra.core.hydra_config import HydraConfig

    from advfool.commands.evaluate import headline

    fsr = headline(metrics, metrics["interp"])
    two = len(HydraConfig.get().sweeper.get("direction") or ()) == 2
    return (fsr, metrics["accuracy"]["drop"]["top1"]) if two else fsr


def result(folder: Path) -> float | tuple[float, float]:
    """What the run in this folder returned."""
    return objectives(json.loads((folder / "metrics.json").read_text()))


def at_end(sweep: Sweep) -> None:
    """The page to open, and the table or figure that the sweep was for."""
    from advfool.report import write_report
    from advfool.reporting.paper import publish

    write_report(sweep.folder)
    if sweep.config.paper:
        publish(sweep.config.paper, sweep.folder, OmegaConf.to_container(sweep.config.scale, resolve=True))


@command("train", result, at_end)
def main(cfg: DictConfig) -> float | tuple[float, float]:
    """One fine-tuning run."""
    from advfool.commands.train import train

    return objectives(train(cfg))


if __name__ == "__main__":
    main()
