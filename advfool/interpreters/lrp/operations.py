"""Name the kinds of operations that LRP has rules for."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.stochastic_depth import stochastic_depth

from advfool.interpreters.tracing.graph import alias, target_name
from advfool.utilities.errors import AdvfoolError, nearest

Key = type | Callable[..., Any] | str  # a module's class, a function, or the name of a tensor's method
CONVOLUTION = {nn.Conv1d, nn.Conv2d, nn.Conv3d, F.conv1d, F.conv2d, F.conv3d, "timm.layers.conv2d_same.Conv2dSame"}
LINEAR = {nn.Linear, F.linear}
BATCH_NORM = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, F.batch_norm, FrozenBatchNorm2d}
# Sigmoid gates (squeeze and excitation): all relevance goes to the gated value (Arras et al. 2017).
GATES = {nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, torch.sigmoid, F.sigmoid, F.hardsigmoid, "sigmoid"}
SUMS = {torch.add, operator.add, "add"}
PRODUCTS = {torch.mul, operator.mul, "mul"}
SCALINGS = PRODUCTS | {operator.truediv, torch.div, "div"}
SHIFTS = {torch.sub, operator.sub, "sub"}
RELUS = {nn.ReLU, nn.ReLU6, F.relu, F.relu6, torch.relu, "relu"}
ACTIVATIONS = {
    *RELUS, nn.Hardtanh, F.hardtanh, nn.LeakyReLU, F.leaky_relu, nn.ELU, F.elu, nn.GELU, F.gelu, nn.SiLU, F.silu,
    nn.Hardswish, F.hardswish, nn.Mish, F.mish, nn.PReLU, nn.Softplus, nn.Tanh, torch.tanh, "tanh",
}  # fmt: skip
UNCHANGED = {
    nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, F.dropout2d, nn.AlphaDropout, F.alpha_dropout, stochastic_depth,
    alias, "contiguous", "clone", "float", "to", "type",
}  # fmt: skip
# Normalisations by the image's own statistics: scale and shift count as constants (Ali et al. 2022).
LAYER_NORMS = {nn.LayerNorm, F.layer_norm, nn.GroupNorm, F.group_norm, nn.LocalResponseNorm, F.local_response_norm}
AVERAGES = {
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, torch.mean, "mean", torch.sum, "sum",
}  # fmt: skip
CONCATENATIONS = {torch.cat, torch.concat, torch.concatenate}
ROUTES = {
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d,
    torch.max_pool1d, torch.max_pool2d, torch.max_pool3d,
    nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d, nn.Flatten, nn.Unflatten, nn.ChannelShuffle, nn.PixelShuffle,
    torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze,
    torch.chunk, torch.split, torch.unbind, torch.stack, torch.channel_shuffle, operator.getitem,
    F.pad, torch.swapaxes, torch.roll, torch.movedim, torch.narrow, torch.select,
    "flatten", "view", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "chunk", "split", "unbind",
    "expand", "unflatten", "view_as",
}  # fmt: skip
NUMBERS = {"size", "dim", "numel", "stride", getattr}  # return numbers, not tensors


def key_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> Key:
    """Return the key that rules are looked up by: a module's class, a function, or a method's name.

    A subclass that uses the forward method of a torch class has the key of that class.

    Args:
        node: a node of the graph.
        modules: the modules that the graph calls, by name.
    """
    if node.op != "call_module":
        return node.target
    kind = type(modules[target_name(node)])
    if f"{kind.__module__}.{kind.__name__}" in CONVOLUTION:
        return f"{kind.__module__}.{kind.__name__}"
    for base in kind.__mro__:
        if (
            base.__module__.startswith("torch.nn.modules")
            and base.forward is kind.forward
            and _same_convolution(kind, base)
        ):
            return base
    return kind


def _same_convolution(kind: type, base: type) -> bool:
    return getattr(kind, "_conv_forward", None) is getattr(base, "_conv_forward", None)


def is_number(node: fx.Node) -> bool:
    """Return whether the node's value is a number (a size, arithmetic on sizes) and not a tensor."""
    if node.op in ("call_method", "call_function") and node.target in NUMBERS:
        return True
    inputs = node.all_input_nodes
    return bool(inputs) and node.op == "call_function" and all(is_number(n) for n in inputs)


def no_rule(node: fx.Node, key: Key, reason: str = "") -> AdvfoolError:
    """Return the error for a node without a rule, which says where it is and how to add a rule.

    Args:
        node: the node.
        key: the key of its missing rule.
        reason: a circumstance in which the operation has no rule, to follow its name.
    """
    name = _name(key)
    where = list(node.meta.get("nn_module_stack", {}).values())
    place = where[-1][0] if where else target_name(node) if node.op == "call_module" else ""
    known = sorted({_name(k) for k in RULED} - {""})
    dotted = f"torch.{name}" if getattr(torch, name, None) is key else f"{getattr(key, '__module__', '')}.{name}"
    dotted = name if isinstance(key, str) else dotted.removeprefix("_")
    return AdvfoolError(
        f"LRP has no rule for {name} (node '{node.name}'{f' in {place!r}' if place else ''}){reason}. Give it one, "
        f"e.g. interp.rules={{{dotted}: pass}} (pass, norm or route; in Python rules={{...: a Rule}}), or use a "
        f"gradient-based interpreter. Close to it: {nearest(name, known)}. Operations with rules: {', '.join(known)}."
    )


def _name(key: Key) -> str:
    return key if isinstance(key, str) else getattr(key, "__name__", str(key))


RULED: frozenset[Key] = frozenset().union(
    CONVOLUTION,
    LINEAR,
    BATCH_NORM,
    GATES,
    SUMS,
    SCALINGS,
    SHIFTS,
    ACTIVATIONS,
    UNCHANGED,
    LAYER_NORMS,
    AVERAGES,
    ROUTES,
    CONCATENATIONS,
)
