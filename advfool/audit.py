"""`python -m advfool.audit`: says whether interpreters' heatmaps can be made to lie about a network, at what price."""

from omegaconf import DictConfig

from advfool.commands.cli import command


@command("audit")
def main(cfg: DictConfig) -> None:
    """Audit interpreters and write a folder with the verdicts."""
    from advfool.commands.audit import audit

    audit(cfg)


if __name__ == "__main__":
    main()
