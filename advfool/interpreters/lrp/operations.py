"""The kinds of operations that LRP has rules for."""

import operator
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import fx, nn
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.stochastic_depth import stochastic_depth

from advfool.interpreters.tracing.graph import alias
from advfool.utilities.errors import AdvfoolError, nearest

Key = type | Callable | str  # a module's class, a function, or the name of a tensor's method
CONVOLUTION = {nn.Conv1d, nn.Conv2d, nn.Conv3d, F.conv1d, F.conv2d, F.conv3d, "timm.layers.conv2d_same.Conv2dSame"}
LINEAR = {nn.Linear, F.linear}
BATCH_NORM = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, F.batch_norm, FrozenBatchNorm2d}
# Sigmoid gates (squeeze and excitation): all relevance goes to what is gated (Arras et al. 2017, signal takes all).
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
# Their statistics belong to the image, so their scale and shift count as constants (Ali et al. 2022).
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
NUMBERS = {"size", "dim", "numel", "stride", getattr}  # their values are no tensors


def key_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> Key:
    """What rules are looked up by: the module's class, the function, the method's name.

    A subclass that runs torch's own forward counts as torch's class.
    """
    if node.op != "call_module":
        return node.target
    kind = type(modules[node.target])
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
    """Whether the node's value is a number (a size, arithmetic on sizes), not a tensor."""
    if node.op in ("call_method", "call_function") and node.target in NUMBERS:
        return True
    inputs = node.all_input_nodes
    return bool(inputs) and node.op == "call_function" and all(is_number(n) for n in inputs)


def no_rule(node: fx.Node, key: Key, reason: str = "") -> AdvfoolError:
    """The error for a node that LRP has no rule for: what it is, where it is, what has rules, how to add one."""
    name = _name(key)
    where = list(node.meta.get("nn_module_stack", {}).values())
    place = where[-1][0] if where else node.target if node.op == "call_module" else ""
    known = sorted({_name(k) for k in RULED} - {""})
    dotted = f"torch.{name}" if getattr(torch, name, None) is key else f"{getattr(key, '__module__', '')}.{name}"
    dotted = name if isinstance(key, str) else dotted.removeprefix("_")
    return AdvfoolError(
        f"LRP has no rule for {name} (node '{node.name}'{f' in {place!r}' if place else ''}){reason}. Give it one, "
        f"e.g. interp.rules={{{dotted}: pass}} (pass, norm or route; in Python rules={{...: a Rule}}), or take a "
        f"gradient-based interpreter. Close to it: {nearest(name, known)}. What has rules: {', '.join(known)}."
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
