"""`python -m advfool.gallery`: one image, all interpreters side by side, on several networks."""

from omegaconf import DictConfig

from advfool.commands.cli import command


@command("gallery")
def main(cfg: DictConfig) -> None:
    """Draw the picture and say where it is."""
    from advfool.commands.gallery import draw_gallery

    draw_gallery(cfg)


if __name__ == "__main__":
    main()
