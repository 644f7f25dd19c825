"""Name the places in a network whose activations are read, and convert those activations to maps."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from advfool.utilities.errors import AdvfoolError

Side = Literal["input", "output"]
Layout = Literal["nchw", "nhwc", "tokens"]


class Site(NamedTuple):
    """Name an activation: the input or the output of a module.

    Args:
        layer: the module's dotted name; the empty name is the network itself.
        side: `input` or `output`.
    """

    layer: str
    side: str = "input"


IMAGES = Site("", "input")


def as_maps(tensors: list[Tensor], layout: str = "nchw") -> Float[Tensor, "n c h w"]:
    """Convert the tensors of a site to maps with channels first.

    Args:
        tensors: the site's tensors; several are concatenated along the channels.
        layout: the order of their dimensions: `nchw`, `nhwc`, or `tokens` (n, t, c). Tokens are folded into a
            square, without the class and register tokens that come first.

    Raises:
        AdvfoolError: the activation is not a map in that layout.
    """
    value = tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)
    if layout == "tokens" and value.dim() == 3:
        side = int(value.shape[1] ** 0.5)
        value = value[:, value.shape[1] - side * side :].unflatten(1, (side, side))
        return value.permute(0, 3, 1, 2)
    if value.dim() != 4 or layout == "tokens":
        raise AdvfoolError(
            f"Expected an activation with {'(n, tokens, c)' if layout == 'tokens' else 'four dimensions (n, c, h, w)'}"
            f" for layout '{layout}', got shape {tuple(value.shape)}. Choose a layer before the pooling, or the "
            "model's layout (nchw, nhwc or tokens)."
        )
    return value.permute(0, 3, 1, 2) if layout == "nhwc" else value


def ran_twice(layer: str) -> AdvfoolError:
    """Return the error for a layer that runs more than once, which has no single activation."""
    return AdvfoolError(
        f"Layer '{layer}' runs more than once in a forward pass, so it has no single activation. Choose another layer."
    )


def not_used(layer: str) -> AdvfoolError:
    """Return the error for a layer that the forward pass does not run."""
    return AdvfoolError(f"Layer '{layer}' was not used in the forward pass, so it has no activation.")
