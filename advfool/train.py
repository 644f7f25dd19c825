"""`python -m advfool.train`: fine-tunes a classifier so that its heatmaps lie, and measures how well they do."""

import logging

from omegaconf import DictConfig

from advfool.command import command

log = logging.getLogger(__name__)


@command("train")
def main(cfg: DictConfig) -> float:
    from advfool.training import train

    return train(cfg)


if __name__ == "__main__":
    main()
