"""`python -m advfool.leaderboard audits=[FOLDER,...]`: joins audits into a page, and checks entries."""

from omegaconf import DictConfig

from advfool.commands.cli import command


@command("leaderboard")
def main(cfg: DictConfig) -> None:
    """Check entries, or write the leaderboard, and say where it is."""
    from advfool.commands.leaderboard import leaderboard

    leaderboard(cfg)


if __name__ == "__main__":
    main()
