"""Say why a forward pass failed, or why no gradient reaches the images."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from advfool.utilities.errors import AdvfoolError, first_line


@contextmanager
def forward_failed(network: nn.Module, images: Tensor) -> Iterator[None]:
    """Turn an error of the network's own code within a context into one that says what the network was given."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError) as error:
        form = f"{tuple(images.shape)}, {images.dtype}"
        raise AdvfoolError(
            f"The forward pass of {type(network).__name__} failed on images of the form {form}: {first_line(error)} "
            "Where their form is the reason, give images as the network takes them: (n, channels, height, width)."
        ) from error


def no_path(network: nn.Module, images: Tensor) -> AdvfoolError:
    """Return the error for logits that have no gradient with respect to the images, with the module in the way."""
    culprit = quantised(network) or _first_without_gradient(network, images)
    where = f"It ends at {culprit}." if culprit else "It ends outside the network's modules."
    return AdvfoolError(
        f"No gradient reaches the images from the logits of {type(network).__name__}. {where} Layers under "
        "torch.no_grad(), detach(), quantised or integer layers, rounding and argmax have none. Remove what is in the "
        "way; LRP needs no gradients."
    )


def quantised(network: nn.Module) -> str | None:
    """Name the first quantised module of a network: its gradient is silently zero; None if there is none.

    Args:
        network: the network.
    """
    for name, module in network.named_modules():
        if ".quantized" in type(module).__module__ and type(module).__module__.startswith("torch."):
            return f"'{name}' ({type(module).__name__})"
    return None


def _first_without_gradient(network: nn.Module, images: Tensor) -> str | None:
    """Run the network and name the first innermost module whose input has a gradient and whose output has none."""
    found: list[str] = []
    handles = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            gave = any(isinstance(value, Tensor) and value.requires_grad for value in args)
            if gave and isinstance(output, Tensor) and not output.requires_grad:
                found.append(f"'{name}' ({type(module).__name__})" if name else "the network itself")

        return hook

    try:
        for name, module in network.named_modules():
            handles.append(module.register_forward_hook(look(name)))
        with torch.inference_mode(False), torch.enable_grad():
            network(images.detach().clone().requires_grad_())
    except Exception:  # only the search for the reason failed
        return None
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
