"""Record one forward pass of a network: the logits, and the values that interpreters read.

Several interpreters can read the same recording, so a training step or an evaluation batch runs the network once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn
from torch.func import functional_call

from advfool.interpreters.tracing.autograd import SecondDerivatives
from advfool.interpreters.tracing.compilation import without_compilation
from advfool.interpreters.tracing.failures import forward_failed, no_path, quantised
from advfool.interpreters.tracing.graph import OtherPath, Runner, Trace
from advfool.interpreters.tracing.hooks import watched
from advfool.interpreters.tracing.sites import IMAGES, Site, not_used
from advfool.interpreters.tracing.threads import MATH_ATTENTION, lock_of
from advfool.interpreters.tracing.tracer import traces
from advfool.utilities.classes import Targets, read_targets
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import in_eval_mode, refuse_script
from advfool.utilities.outputs import logits_of


@runtime_checkable
class Walk(Protocol):
    """Declare what must be recorded for a walk through the network's graph (LRP)."""

    @property
    def site(self) -> Site:
        """The activation at which the walk ends."""
        ...

    @property
    def leaves(self) -> frozenset[type]:
        """Module classes that must not be traced into."""
        ...

    def reads(self, trace: Trace) -> set[fx.Node]:
        """Return the nodes whose values the walk reads.

        Raises:
            AdvfoolError: the walk is impossible.
        """
        ...


@runtime_checkable
class Reader(Protocol):
    """Declare what must be recorded for an interpreter: activations to differentiate with respect to, or a walk."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The activations to record."""
        ...

    @property
    def walk(self) -> Walk | None:
        """The walk to record values for, or None."""
        ...


@dataclass
class Recording:
    """Hold the results of one forward pass.

    Args:
        network: the network that was run.
        images: its input.
        logits: its output.
        create_graph: whether heatmaps read from the recording must be differentiable in the network's parameters.
        activations: the tensors that passed each recorded site.
        trace: the network's graph, where a reader walks it.
        values: the values of graph nodes that a walk reads.
        twice: the mode that the pass ran in, which makes second derivatives fast.
    """

    network: nn.Module
    images: Float[Tensor, "n channels h w"]
    logits: Float[Tensor, "n c"]
    create_graph: bool
    activations: dict[Site, list[Tensor]] = field(default_factory=dict)
    trace: Trace | None = None
    values: dict[fx.Node, Any] = field(default_factory=dict)
    twice: SecondDerivatives = field(default_factory=SecondDerivatives)
    _gradients: dict[tuple[int, ...], dict[Site, list[Tensor | None]]] = field(default_factory=dict)

    def at(self, site: Site) -> list[Tensor]:
        """Return the tensors that passed the site: one, or several where the module takes a list (DenseNet)."""
        return self.activations[site]

    def classes(self, targets: Targets) -> Int[Tensor, "n"]:
        """Return the target class of each image, on the device of the logits.

        Args:
            targets: see `read_targets`.

        Raises:
            AdvfoolError: the number of targets is not that of the images, or a target is not a class.
        """
        images, classes = self.logits.shape
        return read_targets(targets, images, classes, self.logits.device)

    def gradients(self, targets: Int[Tensor, "n"] | int, site: Site) -> list[Tensor]:
        """Compute d score / d activation for each tensor of a site, over every path from it to the score.

        The first call with certain targets computes the gradients at all sites together and keeps them. Images
        must not influence each other, so batch norm must be in eval mode.

        Args:
            targets: the classes whose scores are differentiated, one for each image or one for all.
            site: a recorded site.

        Raises:
            AdvfoolError: the logits do not depend on the site, or a target is not a class.
        """
        targets = self.classes(targets)
        key = tuple(targets.tolist())
        if key not in self._gradients:
            self._gradients[key] = self._gradients_of(targets)
        found = [gradient for gradient in self._gradients[key][site] if gradient is not None]
        if len(found) < len(self._gradients[key][site]):
            if site == IMAGES:
                raise no_path(self.network, self.images)
            raise AdvfoolError(
                f"The logits do not depend on the {site.side} of layer '{site.layer}'. Choose another layer."
            )
        return found

    def _gradients_of(self, targets: Int[Tensor, "n"]) -> dict[Site, list[Tensor | None]]:
        if not self.logits.requires_grad or quantised(self.network):
            raise no_path(self.network, self.images)
        tensors = [tensor for found in self.activations.values() for tensor in found]
        with torch.inference_mode(False), torch.enable_grad(), self.twice.of_activations():
            total = self.logits.gather(1, targets[:, None]).sum()
            found = iter(
                torch.autograd.grad(
                    total, tensors, create_graph=self.create_graph, retain_graph=True, allow_unused=True
                )
            )
        return {site: [next(found) for _ in values] for site, values in self.activations.items()}


def record(
    network: nn.Module,
    images: Float[Tensor, "n channels h w"],
    readers: Iterable[Reader] = (),
    replace: Mapping[Site, list[Tensor]] | None = None,
) -> Recording:
    """Run a network once and keep what the readers will read.

    In grad mode the recording is part of the graph of the network's parameters. Without grad mode, only what follows
    the first site is recorded, with detached parameters: gradients reach the sites and nothing else. The network runs
    in eval mode and is left unchanged: hooks are removed, and parameters, statistics, modes and flags are those of
    before. Threads that record the same network take turns.

    Args:
        network: the network to run.
        images: its input.
        readers: the interpreters that will read the recording.
        replace: tensors that replace the activation at a site; the pass continues with them.

    Raises:
        AdvfoolError: the network has no module of a site's name, or does not run it exactly once; a walk is
            impossible; the network returns no logits; or its batch norms keep no running statistics, so that images
            of a batch influence each other.
    """
    refuse_script(network)
    if images.dim() != 4 or not images.is_floating_point():
        raise AdvfoolError(
            f"Expected images as numbers with a fraction of the form (n, channels, height, width), got {images.dtype} "
            f"of the form {tuple(images.shape)}."
        )
    with lock_of(network):
        return _record(network, images, list(readers), replace or {})


def _record(
    network: nn.Module, images: Tensor, readers: list[Reader], replace: Mapping[Site, list[Tensor]]
) -> Recording:
    sites = list(dict.fromkeys(site for reader in readers for site in reader.sites))
    walks = [walk for reader in readers if (walk := reader.walk)]
    create_graph = torch.is_grad_enabled()
    constant = bool(sites) and not create_graph
    twice = SecondDerivatives()

    def see(tensor: Tensor) -> None:
        twice.active = True  # from the first site on
        if not tensor.requires_grad:
            tensor.requires_grad_()

    with ExitStack() as stack:
        stack.enter_context(in_eval_mode(network))
        if sites:
            stack.enter_context(MATH_ATTENTION.selected())
            stack.enter_context(without_compilation())  # compiled code would not call hooks that are added later
        if readers:  # gradients and relevance need tensors with a history
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(create_graph or bool(sites)))
            images = images.clone() if images.is_inference() else images
        mode = twice if sites and create_graph else nullcontext()
        if walks:
            traced, values, logits = _run_graph(network, images, sites, walks, see, mode, constant)
            activations = {site: [values[node] for node in traced.sites[site]] for site in sites}
            return Recording(network, images, logits, create_graph, activations, traced, values, twice)
        activations: dict[Site, list[Tensor]] = {}
        given = _own(images, constant)
        if IMAGES in sites:  # what the caller passes, whatever the network's class does in a call before its hooks
            activations[IMAGES] = replace.get(IMAGES) or [given]
            see(activations[IMAGES][0])
            given = activations[IMAGES][0].clone()  # the network may overwrite its input
        for site in sites:
            if site != IMAGES:
                stack.enter_context(watched(network, site, activations, see, replace.get(site)))
        with mode, forward_failed(network, images):
            logits = logits_of(_run(network, given, constant), len(images))
    if missing := [site for site in sites if site not in activations]:
        raise not_used(missing[0].layer)
    return Recording(network, images, logits, create_graph, activations, twice=twice)


def _run_graph(
    network: nn.Module,
    images: Tensor,
    sites: Sequence[Site],
    walks: Sequence[Walk],
    see: Callable[[Tensor], None],
    mode: AbstractContextManager[Any],
    constant: bool,
) -> tuple[Trace, dict[fx.Node, Any], Tensor]:
    """Run the network's graph and return it, the values that the walks and the sites need, and the logits."""
    leaves = frozenset[type]().union(*(walk.leaves for walk in walks))
    for traced in traces(network, images, {*sites, *(walk.site for walk in walks)}, leaves):
        reads = set[fx.Node]().union(*(walk.reads(traced) for walk in walks))
        seen = {node for site in sites for node in traced.sites[site]}
        runner = Runner(network, traced, reads, seen, see)
        try:
            with mode, forward_failed(network, images):
                return traced, runner.values, _run(runner, _own(images, constant), constant)
        except OtherPath:
            continue
    raise AdvfoolError(
        f"{type(network).__name__} decides by itself which layers run, and did so differently in two passes with the "
        "same images. LRP needs a forward pass that can be repeated; use a gradient-based interpreter."
    )


def _run(run: nn.Module, images: Tensor, constant: bool) -> Any:
    """Run the network; `constant` detaches its parameters."""
    if constant:
        parameters = {name: parameter.detach() for name, parameter in run.named_parameters()}
        return functional_call(run, parameters, (images,))
    return run(images)


def _own(images: Tensor, constant: bool) -> Tensor:
    """Return an alias of the caller's images, as a site at the images sets requires_grad."""
    return images if images.requires_grad and not constant else images.detach()
