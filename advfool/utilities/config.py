"""Building objects from config nodes, with the errors of their constructors shown as what they are."""

from pathlib import Path

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from advfool.utilities.errors import AdvfoolError

PACKAGE = Path(__file__).parents[1]


def conf_dir() -> Path:
    """The folder of the configuration: inside the installed package, or beside it in a checkout."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"


def build(node: DictConfig, **kwargs) -> object:
    """Hydra's `instantiate`, except that an expected error is not wrapped into one of Hydra's.

    Raises:
        AdvfoolError: the constructor's own, or one that says which target could not be built and why.
    """
    try:
        return instantiate(node, _convert_="object", **kwargs)
    except InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, AdvfoolError):
            cause = cause.__cause__
        if isinstance(cause, AdvfoolError):
            raise cause from None
        raise AdvfoolError(f"Could not build {node.get('_target_')}: {type(cause).__name__}: {cause}") from error


def about_a_value(problem: OmegaConfBaseException) -> AdvfoolError:
    """The error of a config with a value that is missing, or that refers to something that does not exist."""
    first = str(problem).splitlines()[0]
    if not problem.full_key:
        return AdvfoolError(
            f"The configuration refers to a value that does not exist: {first}. Override what refers to it."
        )
    return AdvfoolError(
        f"The configuration has no usable value for '{problem.full_key}': {first}. Give it: {problem.full_key}=..."
    )
