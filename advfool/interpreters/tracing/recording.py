"""One recorded forward pass of a network: the logits, and the values that interpreters read.

Several interpreters can read the same recording, so a training step or an evaluation batch runs the network once.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from advfool.interpreters.tracing.autograd import SecondDerivatives
from advfool.interpreters.tracing.graph import Runner, Trace
from advfool.interpreters.tracing.sites import Site, not_used, ran_twice
from advfool.interpreters.tracing.tracer import trace
from advfool.utilities.classes import check_targets
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import module_at


@runtime_checkable
class Walk(Protocol):
    """What an interpreter that walks the network's graph (LRP) needs to have recorded."""

    site: Site
    leaves: frozenset[type]

    def reads(self, trace: Trace) -> set[fx.Node]:
        """The nodes whose values are read; raises an AdvfoolError where the walk is impossible."""


@runtime_checkable
class Reader(Protocol):
    """What an interpreter needs to have recorded: activations that it takes gradients of, or a walk."""

    @property
    def sites(self) -> tuple[Site, ...]: ...

    @property
    def walk(self) -> Walk | None: ...


@dataclass
class Recording:
    """What a forward pass left behind.

    `create_graph` tells whether heatmaps read from it are to be differentiable with respect to the parameters.
    `trace` and `values` are there where a reader walks the graph.
    """

    network: nn.Module
    images: Float[Tensor, "n 3 h w"]
    logits: Float[Tensor, "n c"]
    create_graph: bool
    activations: dict[Site, list[Tensor]] = field(default_factory=dict)
    trace: Trace | None = None
    values: dict[fx.Node, Any] = field(default_factory=dict)
    twice: SecondDerivatives = field(default_factory=SecondDerivatives)
    _gradients: dict[tuple[int, ...], dict[Site, list[Tensor]]] = field(default_factory=dict)

    def at(self, site: Site) -> list[Tensor]:
        """The tensors that passed the site: one, or several where the module takes a list (DenseNet)."""
        return self.activations[site]

    def classes(self, targets: Int[Tensor, "n"] | int) -> Int[Tensor, "n"]:
        """The target class of each image, on the logits' device.

        Raises:
            AdvfoolError: there are not as many as images, or one is not the number of a class.
        """
        n, classes = self.logits.shape
        with torch.inference_mode(False):  # a copy that gradients can be taken with
            targets = torch.as_tensor(targets).clone().to(self.logits.device).long()
        if targets.dim() and len(targets) != n:
            raise AdvfoolError(f"Expected a target for each of {n} images, or one for all, got {len(targets)}.")
        check_targets(targets, classes)
        return targets.expand(n)

    def gradients(self, targets: Int[Tensor, "n"] | int, site: Site) -> list[Tensor]:
        """d score / d activation for each tensor of the site, over every path from it to the score.

        Those of all sites are computed together, once for the same `targets`. Images must not influence each
        other, so batch norm has to be in eval mode.
        """
        targets = self.classes(targets)
        key = tuple(targets.tolist())
        if key not in self._gradients:
            tensors = [tensor for found in self.activations.values() for tensor in found]
            with torch.inference_mode(False), torch.enable_grad(), self.twice.of_activations():
                total = self.logits.gather(1, targets[:, None]).sum()
                found = iter(
                    torch.autograd.grad(
                        total, tensors, create_graph=self.create_graph, retain_graph=True, allow_unused=True
                    )
                )
            by_site = {name: [next(found) for _ in values] for name, values in self.activations.items()}
            self._gradients[key] = by_site
        if any(gradient is None for gradient in self._gradients[key][site]):
            raise AdvfoolError(
                f"The logits do not depend on the {site.side} of layer '{site.layer}'. Choose another layer."
            )
        return self._gradients[key][site]


def record(
    network: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    readers: Iterable[Reader] = (),
    replace: Mapping[Site, list[Tensor]] | None = None,
) -> Recording:
    """Runs `network` once and keeps what the `readers` will read.

    In grad mode the recording is part of the graph of the network's parameters. Without it, only what follows
    the first site is recorded, on detached parameters: gradients reach the sites and nothing else. Either way the
    network is left as it was: hooks are removed, parameters, modes and flags are untouched.
    `replace` puts other tensors in the place of a site's, for a path through the activations.

    Raises:
        AdvfoolError: the network has no module of a site's name, or it was not run exactly once; a walk is
            impossible.
    """
    readers = list(readers)
    sites = list(dict.fromkeys(site for reader in readers for site in reader.sites))
    walks = [reader.walk for reader in readers if reader.walk]
    create_graph = torch.is_grad_enabled()
    activations: dict[Site, list[Tensor]] = {}
    run, traced, twice = network, None, SecondDerivatives()

    def see(tensor: Tensor) -> None:
        twice.active = True  # from here on
        if not tensor.requires_grad:
            tensor.requires_grad_()

    with ExitStack() as stack:
        if walks:
            leaves = frozenset().union(*(walk.leaves for walk in walks))
            traced = trace(network, {*sites, *(walk.site for walk in walks)}, leaves)
            reads = set().union(*(walk.reads(traced) for walk in walks))
            seen = {node for site in sites for node in traced.sites[site]}
            run = Runner(network, traced, reads, seen, see)
        else:
            for site in sites:
                stack.enter_context(_watch(network, site, activations, see, (replace or {}).get(site)))
        if sites:  # the fused attention kernels have no second derivative
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if sites and create_graph:
            stack.enter_context(twice)
        if readers:  # gradients and relevance need tensors with a history
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(create_graph or bool(sites)))
            images = images.clone() if images.is_inference() else images
        if create_graph or not sites:
            # An alias, because a site at the images themselves would set their requires_grad.
            logits = run(images if images.requires_grad else images.detach())
        else:
            constants = {name: parameter.detach() for name, parameter in run.named_parameters()}
            logits = functional_call(run, constants, (images.detach(),))
    values = run.values if traced else {}
    if traced:
        activations = {site: [values[node] for node in traced.sites[site]] for site in sites}
    for site in sites:
        if site not in activations:
            raise not_used(site.layer)
    return Recording(network, images, logits, create_graph, activations, traced, values, twice)


def _watch(
    network: nn.Module,
    site: Site,
    activations: dict[Site, list[Tensor]],
    see: Callable[[Tensor], None],
    replacement: list[Tensor] | None = None,
):
    """A context in which the activation at `site` is kept, as a tensor that gradients can be taken of."""
    module = module_at(network, site.layer)

    def keep(value):
        if site in activations:
            raise ran_twice(site.layer)
        if isinstance(value, list):
            # The list's tensors depend on each other (DenseNet), but its activation is their concatenation: from
            # here on, everybody who holds the list uses aliases, whose gradients leave out what came before.
            value[:] = replacement or [tensor.view_as(tensor) for tensor in value]
        elif replacement:
            value = replacement[0] if isinstance(value, Tensor) else tuple(replacement)
        tensors = list(value) if isinstance(value, list | tuple) else [value]
        for tensor in tensors:
            see(tensor)
        activations[site] = tensors
        return value

    def before(module, args, kwargs):
        name = next(iter(kwargs)) if not args else None
        value = keep(kwargs[name] if name else args[0])
        if not isinstance(value, Tensor):
            return None
        # The module may overwrite its input (an in-place ReLU), so it works on a copy; gradients pass through it.
        return (args, kwargs | {name: value.clone()}) if name else ((value.clone(), *args[1:]), kwargs)

    def after(module, args, output):
        output = keep(output)
        # What follows may overwrite the output (an in-place ReLU), so it works on a copy.
        return output.clone() if isinstance(output, Tensor) else output

    if site.side == "input":
        return _removing(module.register_forward_pre_hook(before, with_kwargs=True))
    return _removing(module.register_forward_hook(after))


def _removing(handle):
    stack = ExitStack()
    stack.callback(handle.remove)
    return stack
