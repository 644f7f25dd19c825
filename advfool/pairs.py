"""`python -m advfool.pairs`: finds classes whose maps point into their own tiles, for active fooling."""

from omegaconf import DictConfig

from advfool.commands.cli import command


@command("pairs")
def main(cfg: DictConfig) -> None:
    """Measure pairs of classes on training images and say which pass the gate."""
    from advfool.commands.pairs import find_pairs

    find_pairs(cfg)


if __name__ == "__main__":
    main()
