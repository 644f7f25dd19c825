"""What the tensors of a file of weights have to be: dense, of the network's type, and finite."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from advfool.utilities.errors import AdvfoolError


def check_kinds(state: Mapping[str, Tensor], source: str) -> None:
    """Check that all weights are dense tensors with values.

    Args:
        state: tensors by name.
        source: how messages call the weights.

    Raises:
        AdvfoolError: one is sparse, nested, quantised, without values (meta) or no tensor; the message names it.
    """
    for name, value in state.items():
        wrong = _kind(value)
        if wrong:
            raise AdvfoolError(
                f"The weights in {source} cannot be used: '{name}' is {wrong}, expected a dense tensor of numbers. "
                "Save the network's own state dict: torch.save(network.state_dict(), path)."
            )


def check_values(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Check that weights with the names and shapes of a network have values that it can take.

    Args:
        network: that the weights are to be loaded into.
        state: tensors by name.
        source: how messages call the weights.

    Raises:
        AdvfoolError: one has integers in place of floats, or the reverse, NaN or infinite values, or a negative
            variance; the message names it.
    """
    buffers = dict(network.named_buffers())
    for name, own in network.state_dict().items():
        wrong = _values(state[name], own, name, name in buffers) if name in state else ""
        if wrong:
            raise AdvfoolError(
                f"The weights in {source} cannot be used: '{name}' {wrong}. Give weights that were saved from a "
                "working network of this architecture."
            )


def _kind(value: object) -> str:
    """Say what a weight is that is no dense tensor with values; empty if it is one."""
    if not isinstance(value, Tensor):
        return f"of type {type(value).__name__}"
    if value.is_nested:
        return "a nested tensor"
    if value.is_quantized:
        return f"quantised ({value.dtype})"
    if value.is_meta:
        return "without values (on the device meta)"
    if value.layout != torch.strided:
        return f"sparse ({value.layout})"
    return ""


def _values(value: Tensor, own: Tensor, name: str, is_buffer: bool) -> str:
    """Say what is wrong with a weight's values; empty if nothing is."""
    if own.is_floating_point() and not value.is_floating_point():
        return f"has values of {value.dtype}, expected floats ({own.dtype})"
    if own.is_complex() != value.is_complex():
        return f"has values of {value.dtype}, expected {own.dtype}"
    if not (own.is_floating_point() or own.is_complex()):
        whole = not value.is_floating_point() or bool((value.double() == value.double().round()).all())
        return "" if whole else f"has fractions ({value.dtype}), expected integers ({own.dtype})"
    found = value.to(own.dtype)
    bad = ~found.isfinite()
    if is_buffer and not own.is_meta:  # a mask may be infinite, where the network's own is
        bad &= own.isfinite().to(bad.device)
    if bad.any():
        return f"has {int(bad.sum())} of {bad.numel()} values that are NaN or infinite in {own.dtype}, expected none"
    if name.endswith("running_var") and (found < 0).any():
        return f"has negative variances (down to {found.min().item():.4g}), expected none"
    return ""
