"""List the kinds of operations that LRP has rules for: one table, which the planner, the errors and the docs read."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.stochastic_depth import stochastic_depth
from torchvision.transforms import v2

from advfool.interpreters.tracing.graph import alias, with_item
from advfool.interpreters.tracing.kinds import SAME_PADDED

Key = type | Callable[..., Any] | str  # a module's class, a function, or the name of a tensor's method or attribute


@dataclass(frozen=True, eq=False)
class Kind:
    """Describe operations that share a rule.

    Args:
        title: what they are called in the documentation.
        keys: the operations: module classes, functions, names of tensor methods and attributes.
        rule: what happens to relevance.
        reason: why, in one sentence.
    """

    title: str
    keys: frozenset[Key]
    rule: str
    reason: str

    def __contains__(self, key: Key) -> bool:
        return key in self.keys


def _kind(title: str, keys: set[Any], rule: str, reason: str) -> Kind:
    return Kind(title, frozenset(keys), rule, reason)


def _modules(*names: str) -> set[type]:
    """Return module classes by name; `#` stands for the numbers of dimensions 1, 2 and 3."""
    sizes = "123"
    return {
        getattr(nn, n) for name in names for n in ([name.replace("#", s) for s in sizes] if "#" in name else [name])
    }


def _methods(*names: str) -> set[Any]:
    """Return operations that are functions of torch and methods of tensors alike."""
    return {*names, *(getattr(torch, name) for name in names)}


CONVOLUTION = _kind(
    "convolution",
    {*_modules("Conv#d"), F.conv1d, F.conv2d, F.conv3d, SAME_PADDED},
    "the composite's `convolution`; its `first` where no such layer comes before it",
    "Outputs are weighted sums of inputs.",
)
TRANSPOSED = _kind(
    "transposed convolution",
    {*_modules("ConvTranspose#d"), F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d},
    "as a convolution",
    "Outputs are weighted sums of inputs.",
)
LINEAR = _kind(
    "linear layer",
    {nn.Linear, F.linear, torch.addmm},
    "the composite's `linear`; its `first` where no such layer comes before it",
    "Outputs are weighted sums of inputs.",
)
CONTRACTION = _kind(
    "matrix product or einsum with a constant",
    {
        torch.matmul, operator.matmul, "matmul", torch.mm, "mm", torch.bmm, "bmm", torch.mv, "mv", torch.einsum,
        torch.tensordot, torch.inner, "inner",
    },
    "as a linear layer whose weights are the constant; several constants: in proportion to contributions",
    "It is a linear layer without bias; with two operands that depend on the image it has no rule.",
)  # fmt: skip
BATCH_NORM = _kind(
    "batch norm",
    {*_modules("BatchNorm#d", "SyncBatchNorm"), F.batch_norm, FrozenBatchNorm2d},
    "directly after a convolution or linear layer: folded into it (`batchnorm=pass`: passes); elsewhere: passes",
    "In eval mode it is a constant scale and shift of axis 1, which need not be the layer's own output axis (tokens).",
)
INSTANCE_NORM = _kind(
    "instance norm",
    {*_modules("InstanceNorm#d"), F.instance_norm},
    "with running statistics in eval mode: as batch norm; otherwise: passes",
    "The statistics of the image count as constants, as in layer norm.",
)
LAYER_NORM = _kind(
    "normalisation by the image's own statistics",
    {
        nn.LayerNorm, F.layer_norm, torch.layer_norm, nn.GroupNorm, F.group_norm, torch.group_norm, nn.RMSNorm,
        F.rms_norm, nn.LocalResponseNorm, F.local_response_norm, nn.CrossMapLRN2d, F.normalize,
    },
    "passes",
    "Statistics, scale and shift count as constants (Ali et al. 2022).",
)  # fmt: skip
TRANSFORM = _kind(
    "normalising transform",
    {v2.Normalize, v2.ToDtype},
    "passes",
    "Mean and standard deviation are constants: a shift and a scale of each pixel.",
)
GATE = _kind(
    "gate",
    {
        nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid", nn.Hardsigmoid, F.hardsigmoid,
        nn.Softmax, nn.Softmax2d, F.softmax, torch.softmax, "softmax",
    },
    "none: a product of a gate with a value gives all relevance to the value; outside a product it has no rule",
    "Signal takes all (Arras et al. 2017): squeeze and excitation.",
)  # fmt: skip
GATED_HALF = _kind(
    "gated linear unit", {nn.GLU, F.glu}, "all to the half that is gated", "Signal takes all (Arras et al. 2017)."
)
SUM = _kind(
    "sum",
    {torch.add, operator.add, "add"},
    "in proportion to the summands (`sum`; with `alpha`: `average`); with a constant: passes to the value",
    "What does not depend on the image takes no relevance.",
)
DIFFERENCE = _kind(
    "difference",
    {torch.sub, torch.subtract, torch.rsub, operator.sub, "sub", "subtract", operator.neg, torch.neg, "neg"},
    "in proportion to the contributions (`average`); with a constant on either side, and negation: passes to the value",
    "What does not depend on the image takes no relevance.",
)
PRODUCT = _kind(
    "product",
    {torch.mul, torch.multiply, operator.mul, "mul", "multiply"},
    "with a constant: passes to the value; with a gate: all to the gated value; of two other values: no rule",
    "A constant is a factor, wherever it is 0, too.",
)
QUOTIENT = _kind(
    "quotient",
    {operator.truediv, torch.div, torch.divide, torch.true_divide, "div", "divide", "true_divide"},
    "by a constant: passes; by a gate: all to the value; of a constant or another value by a value: no rule",
    "A constant is a factor; a reciprocal is not proportional to its value.",
)
AFFINE = _kind(
    "value times a constant plus a constant",
    {torch.addcmul, "addcmul"},
    "passes to the value; with several values: no rule",
    "Constants take no relevance.",
)
RELU = _kind(
    "rectified linear unit",
    {nn.ReLU, nn.ReLU6, F.relu, F.relu6, torch.relu, "relu"},
    "passes",
    "An activation acts on each value by itself.",
)
ACTIVATION = _kind(
    "activation",
    {
        *_modules(
            "Hardtanh", "LeakyReLU", "ELU", "SELU", "CELU", "RReLU", "GELU", "SiLU", "Hardswish", "Mish", "PReLU",
            "Softplus", "Softsign", "Tanh", "Tanhshrink", "Hardshrink", "Softshrink", "Threshold", "LogSigmoid",
        ),
        F.hardtanh, F.leaky_relu, F.elu, F.selu, F.celu, F.rrelu, F.gelu, F.silu, F.hardswish, F.mish, F.prelu,
        F.softplus, F.softsign, F.tanh, F.tanhshrink, F.hardshrink, F.softshrink, F.threshold, F.logsigmoid,
        torch.selu, torch.celu, torch.rrelu, torch.tanh, "tanh", "hardshrink", "prelu",
        torch.clamp, torch.clip, "clamp", "clip", torch.clamp_min, "clamp_min", torch.clamp_max, "clamp_max",
    },
    "passes",
    "An activation acts on each value by itself.",
)  # fmt: skip
POWER = _kind(
    "power",
    {operator.pow, *_methods("pow", "square", "sqrt", "float_power")},
    "passes; with an exponent that is not positive, or depends on the image: no rule",
    "It acts on each value by itself, and keeps 0; a mean of powers (GeM) shares in proportion to the powers.",
)
UNCHANGED = _kind(
    "dropout, copies and conversions",
    {
        *_modules("Identity", "Dropout", "Dropout#d", "AlphaDropout", "FeatureAlphaDropout"),
        F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout,
        stochastic_depth, alias, operator.pos, "positive", torch.positive, torch.clone, torch.detach, torch.as_tensor,
        "contiguous", "clone", "detach", "data", "requires_grad_", "float", "double", "half", "bfloat16", "to", "type",
        "type_as", "cpu", "cuda",
    },
    "passes",
    "The values are the same.",
)  # fmt: skip
AVERAGE = _kind(
    "average and sum over positions",
    {
        *_modules("AvgPool#d", "AdaptiveAvgPool#d", "Fold"), F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.fold,
        F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
        torch.mean, "mean", torch.sum, "sum", torch.cumsum, "cumsum",
        *_methods("nanmean", "nansum"),
    },
    "in proportion to the contributions (`average`)",
    "Outputs are sums of inputs.",
)  # fmt: skip
BLEND = _kind(
    "linear combination of several values",
    {torch.lerp, "lerp"},
    "in proportion to the contributions (`average`)",
    "Outputs are sums of inputs; the weights must be constants.",
)
RESAMPLING = _kind(
    "resampling",
    {
        *_modules("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"), F.interpolate, v2.Resize,
        F.grid_sample, torch.grid_sampler,
    },
    "nearest: to where the value came from; otherwise in proportion to the contributions (`average`)",
    "Outputs are copies, or sums, of inputs; the places to sample at must be constants.",
)  # fmt: skip
MAXIMUM = _kind(
    "maximum and minimum",
    {
        *_modules("MaxPool#d", "AdaptiveMaxPool#d", "MaxUnpool#d", "FractionalMaxPool2d", "FractionalMaxPool3d"),
        F.fractional_max_pool2d, F.fractional_max_pool3d, F.fractional_max_pool2d_with_indices,
        F.fractional_max_pool3d_with_indices, F.max_pool1d, F.max_pool2d, F.max_pool3d,
        torch.max_pool1d, torch.max_pool2d, torch.max_pool3d, F.max_pool1d_with_indices, F.max_pool2d_with_indices,
        F.max_pool3d_with_indices, F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d,
        F.adaptive_max_pool1d_with_indices, F.adaptive_max_pool2d_with_indices, F.adaptive_max_pool3d_with_indices,
        F.max_unpool1d, F.max_unpool2d, F.max_unpool3d, torch.amax, "amax", torch.amin, "amin", torch.max, "max",
        torch.min, "min", torch.topk, "topk", torch.sort, "sort",
    },
    "to the value that was chosen",
    "The others do not reach the output.",
)  # fmt: skip
REORDER = _kind(
    "reshape, reordering, selection, repetition, padding with zeros or with values of the image",
    {
        *_modules(
            "Flatten", "Unflatten", "ChannelShuffle", "PixelShuffle", "PixelUnshuffle", "Unfold",
            "ZeroPad#d", "ReflectionPad#d", "ReplicationPad#d", "CircularPad#d",
        ),
        F.pad, F.unfold, F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle, operator.getitem,
        v2.CenterCrop, "values", "T", "mT", "H", "mH", "real", "unfold", "view", "view_as",
        "expand", "expand_as", "reshape_as", "repeat",
        *_methods(
            "flatten", "reshape", "permute", "transpose", "t", "squeeze", "unsqueeze", "chunk", "split", "tensor_split",
            "unbind", "unflatten", "ravel", "swapaxes", "swapdims", "movedim", "moveaxis", "narrow", "select", "roll",
            "flip", "fliplr", "flipud", "rot90", "index_select", "gather", "take_along_dim", "tile",
            "repeat_interleave", "diagonal", "tril", "triu", "adjoint", "broadcast_to", "as_strided", "scatter",
            "split_with_sizes", "masked_select", "take", "hsplit", "vsplit", "dsplit",
        ),
        torch.stack, torch.hstack, torch.vstack, torch.dstack, torch.column_stack, torch.row_stack,
        torch.channel_shuffle, torch.real,
    },
    "to where the value came from; constants at padded places take theirs",
    "Each output is a copy of one input.",
)  # fmt: skip
CHOICE = _kind(
    "choice between values and constants",
    {
        *_modules("ConstantPad#d"), torch.where, "where", torch.masked_fill, "masked_fill", torch.maximum, "maximum",
        torch.minimum, "minimum", with_item,
    },
    "to the value that was chosen; chosen constants take theirs",
    "Each output is a copy of one input or constant.",
)  # fmt: skip
CONCATENATION = _kind(
    "concatenation",
    {torch.cat, torch.concat, torch.concatenate},
    "each part keeps its own; constant parts take theirs",
    "Each output is a copy of one input.",
)
DECISION = _kind(
    "comparison, index",
    {
        operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne, operator.invert, operator.and_,
        operator.or_, operator.xor, "long", "int", "bool",
        *_methods(
            "gt", "ge", "lt", "le", "eq", "ne", "argmax", "argmin", "argsort", "isnan", "isfinite", "logical_not",
            "logical_and", "logical_or",
        ),
    },
    "none: counts as a constant",
    "It decides which values go on, but is none of them.",
)  # fmt: skip
BLANK = _kind(
    "new tensor of the shape of another",
    {
        torch.zeros_like, torch.ones_like, torch.full_like, torch.empty_like, torch.rand_like, torch.randn_like,
        "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor",
    },
    "none: a constant",
    "Its values do not depend on the image.",
)  # fmt: skip
KINDS = tuple(kind for kind in list(globals().values()) if isinstance(kind, Kind))
KIND_OF = {key: kind for kind in KINDS for key in kind.keys}

WEIGHTED = CONVOLUTION.keys | TRANSPOSED.keys | LINEAR.keys | CONTRACTION.keys
ARITHMETIC = (SUM, DIFFERENCE, PRODUCT, QUOTIENT, AFFINE)
LENDING = frozenset({"to", "type_as", "view_as", "expand_as", "reshape_as"})  # read no values of further arguments
