"""The default target layer of a network: its last convolution or block whose input is a large enough map."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from advfool.interpreters.tracing.sites import Layout
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import SMALLEST_MAP
from advfool.utilities.modules import in_eval_mode, module_at

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def find_target_layer(network: nn.Module, shape: Sequence[int], layer: str | None = None) -> tuple[str, Layout]:
    """Find the last convolution or block whose input is a map of at least 7x7, coarser than the image if one is.

    A block is an element of a container (Sequential, ModuleList, ModuleDict) that is not itself a container or a
    single operation, or one of several siblings of the same class; what lies inside a block is not considered. The
    network runs once, on two black images, in eval mode.

    Args:
        network: any network.
        shape: (channels, height, width) of the images.
        layer: name of a module, to find only the layout of its input; None to find the module, too.

    Returns:
        The name of the module, and the layout of its input (`nchw`, `nhwc` or `tokens`).

    Raises:
        AdvfoolError: no module qualifies, or there is no module with the given name.
    """
    coarse: list[tuple[str, Layout]] = []
    fine: list[tuple[str, Layout]] = []  # maps as large as the image
    handles = []
    candidates = _candidates(network) if layer is None else [(layer, module_at(network, layer))]
    for name, module in candidates:

        def note(module, args, kwargs, name=name):
            value = args[0] if args else None
            if isinstance(value, list | tuple):
                value = value[0]
            layout = _layout(value, shape) if isinstance(value, Tensor) else None
            if layout and isinstance(value, Tensor):
                (coarse if _is_coarser(value, layout, shape) else fine).append((name, layout))

        handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        with torch.no_grad(), in_eval_mode(network):
            parameter = next(network.parameters())
            network(torch.zeros(2, *shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        for handle in handles:
            handle.remove()
    seen = coarse or fine
    if not seen and layer is not None:
        return layer, "nchw"
    if not seen:
        raise AdvfoolError(
            f"{type(network).__name__} has no convolution or block with a map of at least "
            f"{SMALLEST_MAP}x{SMALLEST_MAP} for images of {shape[1]}x{shape[2]}. Name a layer: "
            "model.target_layer=..., model.layout=nchw|nhwc|tokens."
        )
    return seen[-1]


def _candidates(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules of convolutions and of outermost blocks."""
    siblings = [type(child) for child in network.children()]
    for name, child in network.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Conv2d):
            yield path, child
        elif not any(child.children()):
            continue
        elif isinstance(child, CONTAINERS):
            yield from _candidates(child, f"{path}.")
        elif isinstance(network, CONTAINERS) or siblings.count(type(child)) > 1:
            yield path, child
        else:
            yield from _candidates(child, f"{path}.")


def _layout(value: Tensor, shape: Sequence[int]) -> Layout | None:
    """Find the layout of an activation for images of this shape; None if it is no map of a useful size."""
    _, height, width = shape
    if value.dim() == 4:
        slack = 0 if height == width else max(height, width)  # strides round the two sides differently
        layouts: tuple[tuple[Layout, Sequence[int]], ...] = (("nchw", value.shape[2:]), ("nhwc", value.shape[1:3]))
        for layout, sides in layouts:
            if abs(sides[0] * width - sides[1] * height) <= slack:
                return layout if min(sides) >= SMALLEST_MAP and tuple(value.shape[1:]) != tuple(shape) else None
    if value.dim() == 3:
        side = int(value.shape[1] ** 0.5)
        prefix = value.shape[1] - side * side
        # Class, distillation and register tokens stand before the patches.
        if side >= SMALLEST_MAP and prefix <= 8:
            return "tokens"
    return None


def _is_coarser(value: Tensor, layout: Layout, shape: Sequence[int]) -> bool:
    """Tell whether an activation has fewer places than the image has pixels."""
    places = {"nchw": value.shape[2:], "nhwc": value.shape[1:3], "tokens": value.shape[1:2]}[layout]
    return places.numel() < shape[1] * shape[2]
