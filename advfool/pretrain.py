"""`python -m advfool.pretrain model=resnet_tiny`: trains a tiny network once and caches its weights."""

from omegaconf import DictConfig
from rich import print

from advfool.commands.cli import command


@command("pretrain")
def main(cfg: DictConfig) -> None:
    """Train what the configuration describes, unless it is cached, and say where the weights are."""
    from advfool.commands.pretrained import pretrained_weights

    print(f"Weights of {cfg.model.name}: {pretrained_weights(cfg)}")


if __name__ == "__main__":
    main()
