"""`python -m advfool.evaluate run=PATH`: measures a manipulated network against the original one."""

from omegaconf import DictConfig

from advfool.commands.cli import command
from advfool.commands.objectives import result


@command("evaluate", result)
def main(cfg: DictConfig) -> float:
    """Do one evaluation, of a finished run or of two files of weights."""
    from advfool.commands.evaluate import evaluate

    return evaluate(cfg)


if __name__ == "__main__":
    main()
