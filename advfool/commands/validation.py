"""Check a whole configuration before anything is built, and before Hydra makes a folder."""

from collections.abc import Sequence
from typing import Any, get_type_hints

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from advfool.commands.combinations import check_combinations
from advfool.commands.keys import COMMANDS, RunKeys
from advfool.commands.nodes import Nodes, refuse_unknown_keys
from advfool.commands.overrides import check_overrides
from advfool.utilities.checking import check
from advfool.utilities.config import about_a_value, as_config, plain
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Text


class Refused(BaseException):
    """Carry an expected error past Hydra, which takes a callback's exceptions for warnings.

    Args:
        error: what is wrong with the configuration.
    """

    def __init__(self, error: AdvfoolError) -> None:
        super().__init__(str(error))
        self.error = error


class Validate(Callback):
    """Hydra's callback before any folder is made: checks a run's configuration, of a sweep the names of what it varies.

    Args:
        command: whose configuration it is, such as `train`.
    """

    def __init__(self, command: str) -> None:
        self.command = command

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        try:
            self._check(config)
        except AdvfoolError as error:
            raise Refused(error) from None
        except OmegaConfBaseException as problem:
            raise Refused(about_a_value(problem)) from None

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        try:
            check_overrides(list(config.hydra.overrides.task), self.command, sweeps=True)
        except AdvfoolError as error:
            raise Refused(error) from None

    def _check(self, config: DictConfig) -> None:
        before, whole = HydraConfig.instance().cfg, config.copy()
        with read_write(whole), open_dict(whole):
            whole.hydra.runtime.output_dir = "."
            HydraConfig.instance().set_config(whole)
            try:
                task = whole.copy()
                del task["hydra"]
                check_config(task, self.command)
                check(Text, whole.hydra.run.dir, "hydra.run.dir", "null")
            finally:
                HydraConfig.instance().cfg = before


_STAND_INS = {"input": {"mean": None, "std": None}, "layout": "nchw"}
_BUILT = ("model", "data", "fooling", "interp")  # an evaluation takes them from the run that it evaluates


def check_config(cfg: DictConfig, command: str) -> None:
    """Check every value of a configuration.

    Args:
        cfg: the whole configuration of a command, without `hydra`.
        command: its name, such as `train`.

    Raises:
        AdvfoolError: a key is unknown, a value is of another kind or out of its range, or values contradict each
            other. The message names the key, what is expected and what was given.
    """
    declaration = COMMANDS[command]
    for key in declaration.needs:
        if OmegaConf.is_missing(cfg, key) or cfg.get(key) is None:
            raise AdvfoolError(f"{key} is missing: give it, {key}=...")
    tree = resolved(cfg, list(cfg))
    hints: dict[str, Any] = {}
    for schema in reversed(declaration.schemas):
        hints |= get_type_hints(schema, include_extras=True)
    refuse_unknown_keys(tree, list(hints), "")
    if command in ("train", "evaluate", "nulls", "pretrain", "pairs", "audit"):
        hints |= {key: hint for key, hint in _constructor_hints().items() if key in hints}
    later = (*_BUILT, "interpreters", "also", "others") if tree.get("run") else ()
    Nodes(cfg).check({key: value for key, value in tree.items() if key not in later}, hints)
    if command in ("train", "evaluate", "nulls"):
        check_combinations(tree)


def check_built(cfg: DictConfig) -> None:
    """Check what is built of a configuration that was put together from a run's and the command's.

    Args:
        cfg: the configuration; keys that it lacks are not missed.

    Raises:
        AdvfoolError: see `check_config`.
    """
    hints = get_type_hints(RunKeys, include_extras=True)
    Nodes(cfg).check(resolved(cfg, [key for key in _BUILT if key in cfg]), hints)


def resolved(cfg: DictConfig, keys: Sequence[Any]) -> dict[str, Any]:
    """Resolve nodes; interpolations to what is only found with the network (null until then) get a stand-in."""
    model = cfg.get("model")
    missing = {key: value for key, value in _STAND_INS.items() if model and key in model and model.get(key) is None}
    whole = as_config(cfg, {"model": missing}) if missing else cfg
    try:
        tree = {str(key): plain(whole[key]) for key in keys}
    except OmegaConfBaseException as problem:
        raise about_a_value(problem) from None
    if missing:
        tree["model"] |= dict.fromkeys(missing)
    return tree


def _constructor_hints() -> dict[str, Any]:
    """Read the types of the top-level keys that become arguments of the same name."""
    from advfool.evaluation.setup import Settings
    from advfool.training.settings import Training

    taken = [get_type_hints(kind.__init__, include_extras=True) for kind in (Settings, Training)]
    nodes = (
        "aopc",
        "faithfulness",
        "accuracy",
        "nulls",
        "budget",
        "preserve",
        "optimizer",
        "scheduler",
        "cache",
    )  # built from settings of their own
    return {key: hint for hints in taken for key, hint in hints.items() if key not in nodes}
