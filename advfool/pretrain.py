"""`python -m advfool.pretrain model=resnet_tiny`: trains a tiny network once and caches its weights."""

from omegaconf import DictConfig
from rich import print

from advfool.commands.cli import command


@command("pretrain")
def main(cfg: DictConfig) -> None:
    """Trains what `cfg` describes, unless it is cached, and says where the weights are."""
    from advfool.training.pretraining import pretrained_weights

    print(f"Weights of {cfg.model.name}: {pretrained_weights(cfg)}")


if __name__ == "__main__":
    main()
