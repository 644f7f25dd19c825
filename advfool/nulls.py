"""`python -m advfool.nulls`: measures what the success rate would be without an attack."""

from pathlib import Path

from omegaconf import DictConfig

from advfool.commands.cli import command


def result(folder: Path, cfg: DictConfig) -> dict:
    """Read what the command has measured."""
    from advfool.commands.nulls import result

    return result(folder)


@command("nulls", result)
def main(cfg: DictConfig) -> dict:
    """Measure all controls of a run, or of a network, data, a fooling and interpreters."""
    from advfool.commands.nulls import nulls

    return nulls(cfg)


if __name__ == "__main__":
    main()
