"""`python -m advfool.evaluate run=PATH`: measures a manipulated network against the original one."""

from omegaconf import DictConfig

from advfool.commands.cli import command
from advfool.train import result


@command("evaluate", result)
def main(cfg: DictConfig) -> float:
    """One evaluation, of a finished run or of any two state dicts."""
    from advfool.commands.evaluate import evaluate

    return evaluate(cfg)


if __name__ == "__main__":
    main()
