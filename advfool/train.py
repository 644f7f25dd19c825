"""`python -m advfool.train`: fine-tunes a classifier so that its heatmaps lie, and measures how well they do."""

from omegaconf import DictConfig

from advfool.commands.cli import command
from advfool.commands.objectives import Objectives, objectives, result
from advfool.commands.sweep import Sweep


def at_end(sweep: Sweep) -> None:
    """Write the page to open, and the table or figure that the sweep was for."""
    from advfool.commands.trust import trust_of
    from advfool.reporting.paper import publish
    from advfool.reporting.writing import write_all
    from advfool.utilities.config import plain

    write_all(sweep.folder)
    if sweep.config.paper:
        trust = trust_of(sweep.config, sweep.folder)
        publish(sweep.config.paper, sweep.folder, plain(sweep.config.scale), trust)


@command("train", result, at_end)
def main(cfg: DictConfig) -> Objectives:
    """Do one fine-tuning run."""
    from advfool.commands.train import train
    from advfool.reporting.writing import write_all

    return objectives(train(cfg, write_all), cfg.objective)


if __name__ == "__main__":
    main()
