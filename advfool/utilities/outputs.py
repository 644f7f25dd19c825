"""Find the logits in what a network returns."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import refuse_script


def logits_of(output: Any, images: int, choice: str | int | None = None) -> Float[Tensor, "n c"]:
    """Return the logits among the values that a network returns.

    Without a choice, a tensor is taken as it is; of a tuple or dict, its one tensor of the form (n, classes), or the
    one named `logits`. One score for each image (n,) becomes (n, 1), and (n, classes, 1, 1) becomes (n, classes).

    Args:
        output: what the network returned.
        images: n, the number of images.
        choice: the position or name of the logits, where the output is a tuple or a dict.

    Raises:
        AdvfoolError: the output has no logits, several tensors that may be, or none of the chosen name.
    """
    named = _named(output)
    if choice is not None:
        if choice not in named:
            raise AdvfoolError(f"output: expected one of {_listed(named)} of the network's output, got {choice!r}.")
        return _as_logits(named[choice], images)
    if isinstance(output, Tensor):
        return _as_logits(output, images)
    if len(named) == 1:
        return _as_logits(next(iter(named.values())), images)
    fitting = [value for value in named.values() if isinstance(value, Tensor) and _are_logits(value, images)]
    if len(fitting) == 1:
        return _as_logits(fitting[0], images)
    if "logits" in named:
        return _as_logits(named["logits"], images)
    raise AdvfoolError(
        f"Expected a network that returns logits (n, classes), got {_listed(named) or type(output).__name__}. "
        "Choose one with output=, or wrap the network in a module that returns the logits."
    )


@dataclass(frozen=True)
class LogitsAlone:
    """Return the logits in place of a network's output: a forward hook of the network.

    Args:
        choice: see `logits_of`.
    """

    choice: str | int | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Float[Tensor, "n c"]:
        return logits_of(output, args[0].shape[0], self.choice)


def select_logits(network: nn.Module, choice: str | int | None = None) -> RemovableHandle:
    """Let a network return its logits alone from now on, or until the handle is removed.

    Args:
        network: the network.
        choice: see `logits_of`.

    Raises:
        AdvfoolError: the network is TorchScript.
    """
    refuse_script(network)
    return network.register_forward_hook(LogitsAlone(choice))


@contextmanager
def returning_logits(network: nn.Module, choice: str | int | None = None) -> Iterator[None]:
    """Let a network return its logits alone within a context.

    Args:
        network: the network.
        choice: see `logits_of`.
    """
    handle = select_logits(network, choice)
    try:
        yield
    finally:
        handle.remove()


def _named(output: Any) -> dict[str | int, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, Sequence) and not isinstance(output, str):
        names: dict[str | int, Any] = dict(enumerate(output))
        for name, value in zip(getattr(output, "_fields", ()), output, strict=False):
            names[name] = value
            names.pop(list(output._fields).index(name))  # pyright: ignore[reportAttributeAccessIssue]
        return names
    return {0: output} if isinstance(output, Tensor) else {}


def _are_logits(value: Tensor, images: int) -> bool:
    return value.dim() == 2 and value.shape[0] == images and value.dtype.is_floating_point


def _as_logits(value: Any, images: int) -> Tensor:
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        found = _form(value)
    elif _are_logits(value, images):
        return value
    elif value.dim() == 1 and value.shape[0] == images:
        return value[:, None]
    elif value.dim() == 4 and value.shape[0] == images and value.shape[2] == value.shape[3] == 1:
        return value.flatten(1)
    else:
        found = _form(value)
    raise AdvfoolError(
        f"Expected a network that returns logits (n, classes) for {images} image{'s' * (images != 1)}, got {found}. "
        "Wrap the network in a module that returns one score for each class, for example the mean of a map."
    )


def _listed(named: Mapping[str | int, Any]) -> str:
    return ", ".join(f"{name!r}: {_form(value)}" for name, value in named.items())


def _form(value: Any) -> str:
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
