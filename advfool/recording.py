"""One recorded forward pass of a network: the logits, and the activations that interpreters read.

Several interpreters can read the same recording, so a training step or an evaluation batch runs the network once.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from advfool.errors import AdvfoolError, nearest

Side = Literal["input", "output"]
Layout = Literal["nchw", "nhwc", "tokens"]


class Site(NamedTuple):
    """A place in a network: the input or the output of the module of this name."""

    layer: str
    side: str = "input"


@dataclass
class Recording:
    """What a forward pass left behind.

    `create_graph` tells whether heatmaps read from it are to be differentiable with respect to the parameters.
    """

    logits: Float[Tensor, "n c"]
    create_graph: bool
    activations: dict[Site, list[Tensor]] = field(default_factory=dict)

    def at(self, site: Site) -> list[Tensor]:
        """The tensors that passed the site: one, or several where the module takes a list (DenseNet)."""
        return self.activations[site]

    def scores(self, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n"]:
        """Each image's logit of its target class."""
        targets = torch.as_tensor(targets, device=self.logits.device).expand(len(self.logits))
        return self.logits.gather(1, targets[:, None])[:, 0]

    def gradients(self, targets: Int[Tensor, "n"] | int, tensors: list[Tensor]) -> tuple[Tensor, ...]:
        """d score / d tensor for each tensor, over every path from it to the score.

        Images must not influence each other, so batch norm has to be in eval mode.
        """
        with torch.inference_mode(False), torch.enable_grad():
            total = self.scores(targets).sum()
            return torch.autograd.grad(total, tensors, create_graph=self.create_graph, retain_graph=True)


def record(network: nn.Module, images: Float[Tensor, "n 3 h w"], sites: Iterable[Site] = ()) -> Recording:
    """Runs `network` once and keeps the activations at `sites`.

    In grad mode the recording is part of the graph of the network's parameters. Without it, only what follows
    the first site is recorded, on detached parameters: gradients reach the sites and nothing else. Either way the
    network is left as it was: hooks are removed, parameters, modes and flags are untouched.

    Raises:
        AdvfoolError: the network has no module of a site's name, or it was not run exactly once.
    """
    create_graph = torch.is_grad_enabled()
    sites = list(dict.fromkeys(sites))
    activations: dict[Site, list[Tensor]] = {}
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(_watch(network, site, activations))
        if sites:  # the fused attention kernels have no second derivative
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if create_graph or not sites:
            # An alias, because a site at the images themselves would set their requires_grad.
            logits = network(images if images.requires_grad else images.detach())
        else:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            constants = {name: parameter.detach() for name, parameter in network.named_parameters()}
            images = images.clone() if images.is_inference() else images.detach()
            logits = functional_call(network, constants, (images,))
    for site in sites:
        if site not in activations:
            raise AdvfoolError(f"Layer '{site.layer}' was not used in the forward pass, so it has no activation.")
    return Recording(logits, create_graph, activations)


def module_at(network: nn.Module, layer: str) -> nn.Module:
    """The module of this dotted name.

    Raises:
        AdvfoolError: there is none; the message lists names close to it.
    """
    modules = dict(network.named_modules())
    if layer not in modules or layer == "":
        raise AdvfoolError(
            f"{type(network).__name__} has no layer '{layer}'. Layers of a similar name: "
            f"{nearest(layer, [name for name in modules if name])}."
        )
    return modules[layer]


def _watch(network: nn.Module, site: Site, activations: dict[Site, list[Tensor]]):
    """A context in which the activation at `site` is kept, as a tensor that gradients can be taken of."""
    module = module_at(network, site.layer)

    def keep(value):
        if site in activations:
            raise AdvfoolError(
                f"Layer '{site.layer}' runs more than once in a forward pass, so it has no single activation. "
                "Choose another layer."
            )
        if isinstance(value, list):
            # The list's tensors depend on each other (DenseNet), but its activation is their concatenation: from
            # here on, everybody who holds the list uses aliases, whose gradients leave out what came before.
            value[:] = [tensor.view_as(tensor) for tensor in value]
        tensors = list(value) if isinstance(value, list | tuple) else [value]
        for tensor in tensors:
            if not tensor.requires_grad:
                tensor.requires_grad_()
        activations[site] = tensors

    def before(module, args, kwargs):
        name = next(iter(kwargs)) if not args else None
        value = kwargs[name] if name else args[0]
        keep(value)
        if not isinstance(value, Tensor):
            return None
        # The module may overwrite its input (an in-place ReLU), so it works on a copy; gradients pass through it.
        return (args, kwargs | {name: value.clone()}) if name else ((value.clone(), *args[1:]), kwargs)

    def after(module, args, output):
        keep(output)
        # What follows may overwrite the output (an in-place ReLU), so it works on a copy.
        return output.clone() if isinstance(output, Tensor) else None

    if site.side == "input":
        return _removing(module.register_forward_pre_hook(before, with_kwargs=True))
    return _removing(module.register_forward_hook(after))


def _removing(handle):
    stack = ExitStack()
    stack.callback(handle.remove)
    return stack


def as_maps(tensors: list[Tensor], layout: str = "nchw") -> Float[Tensor, "n c h w"]:
    """The tensors of a site as one stack of maps: lists concatenated by channel, tokens folded into a square.

    `nhwc` has channels last; `tokens` (n, t, c) has the class and register tokens first, which are dropped.

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
