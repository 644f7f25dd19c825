"""`python -m advfool.train`: fine-tunes a classifier so that its heatmaps lie, and measures how well they do."""

from omegaconf import DictConfig

from advfool.command import command


@command("train")
def main(cfg: DictConfig) -> float:
    """One fine-tuning run; the FSR it returns is what a sweeper can optimise."""
    from advfool.training import train

    return train(cfg)


if __name__ == "__main__":
    main()
