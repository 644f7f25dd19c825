"""Trace a network's forward pass into a graph without in-place operations."""

import threading
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from advfool.interpreters.tracing.compilation import without_compilation
from advfool.interpreters.tracing.failures import forward_failed
from advfool.interpreters.tracing.graph import OtherPath, Runner, Trace, target_name
from advfool.interpreters.tracing.in_place import remove_in_place
from advfool.interpreters.tracing.instances import values_are_instances
from advfool.interpreters.tracing.proxies import Root, SiteTracer
from advfool.interpreters.tracing.sites import IMAGES, Site, not_used
from advfool.interpreters.tracing.structure import structure
from advfool.utilities.errors import AdvfoolError, first_line
from advfool.utilities.modules import module_at
from advfool.utilities.outputs import logits_of
from advfool.utilities.random import random_state, set_random_state

_TRACING = threading.RLock()  # torch.fx patches nn.Module for the whole process while it traces
_TRACES: weakref.WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], dict[Any, list[Trace]]]] = (
    weakref.WeakKeyDictionary()
)
_KEPT = 16  # graphs of one network, which differ by what its images decide


def traces(
    network: nn.Module, images: Tensor, sites: Collection[Site], leaves: frozenset[type] = frozenset()
) -> Iterator[Trace]:
    """Yield graphs of the network: those known for these sites and leaves, then one that is recorded with the images.

    A graph fits other images as long as running it does not raise `OtherPath`. After a change of what steers the
    forward pass (`structure`), no older graph is yielded.

    Args:
        network: the network to trace.
        images: its input, on which the network is run where a graph has to be recorded.
        sites: the activations to find in the graph.
        leaves: module classes that are not traced into.

    Raises:
        AdvfoolError: torch.fx cannot trace the network, the graph computes other logits than the network, or the
            network does not run a site's module exactly once.
    """
    with _TRACING:
        now = structure(network)
        before, known = _TRACES.get(network, (None, {}))
        if before != now:
            known = {}
            _TRACES[network] = (now, known)
        found = known.setdefault((frozenset(sites), leaves), [])
    yield from list(found)
    with _TRACING, _same_random_numbers(images.device), torch.inference_mode(False), torch.no_grad():
        traced = _checked_trace(network, images, sites, leaves)
        found.insert(0, traced)
        del found[_KEPT:]
    yield traced


@contextmanager
def _same_random_numbers(device: torch.device) -> Iterator[None]:
    """Leave the random numbers that are drawn after the context as if nothing had been drawn within it."""
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(device, state)


def _checked_trace(network: nn.Module, images: Tensor, sites: Collection[Site], leaves: frozenset[type]) -> Trace:
    """Trace the network for images of any size where that is possible, otherwise for those of this size."""
    for site in sites:
        module_at(network, site.layer)
    state = random_state(images.device)
    with forward_failed(network, images):
        expected = logits_of(network(images.detach().clone()), len(images))

    def attempt(fixed: bool) -> Trace:
        set_random_state(images.device, state)
        torch.rand(1, device=images.device)  # the trace draws other numbers than the network did
        traced = _trace(network, images, sites, leaves, fixed)
        set_random_state(images.device, state)
        _check_logits(network, traced, images, expected)
        return traced

    try:
        return attempt(fixed=False)
    except AdvfoolError:
        return attempt(fixed=True)


def _trace(network: nn.Module, images: Tensor, sites: Collection[Site], leaves: frozenset[type], fixed: bool) -> Trace:
    images = images.detach().clone()  # the network may overwrite its input
    tracer = SiteTracer(network, images, sites, leaves, fixed)
    try:
        with _unchanged(network), values_are_instances(), without_compilation():
            graph = tracer.trace(Root(network))
    except AdvfoolError:
        raise
    except Exception as error:  # the network's own code may raise anything while it is traced
        raise AdvfoolError(
            f"{type(network).__name__} cannot be traced by torch.fx, which LRP needs: {first_line(error)} "
            "Gradient-based interpreters (gradcam, simplegrad, ...) do not need a trace."
        ) from error
    found = tracer.found
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    (logits,) = graph.output_node().args
    if not isinstance(logits, fx.Node):
        raise AdvfoolError(f"The output of {type(network).__name__} does not depend on its input.")
    found |= {IMAGES: (placeholders[0],), Site("", "output"): (logits,)}
    if missing := [site for site in sites if site not in found]:
        raise not_used(missing[0].layer)
    called = {target_name(node) for node in graph.nodes if node.op == "call_module"}
    modules = {name: network.get_submodule(name) for name in called}
    overwriting = remove_in_place(graph, modules)
    return Trace(graph, modules, {site: found[site] for site in {*sites, IMAGES}}, overwriting, tracer.decisions)


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """Undo what the network's code stores on its modules within a context, which are recorded values."""
    kinds = ("_parameters", "_buffers", "_modules")
    before = [
        (module, dict(vars(module)), {kind: dict(vars(module)[kind]) for kind in kinds}) for module in network.modules()
    ]
    try:
        yield
    finally:
        for module, attributes, contents in before:
            _restore(vars(module), attributes)
            for kind, content in contents.items():
                _restore(vars(module)[kind], content)


def _restore(present: dict[str, Any], before: dict[str, Any]) -> None:
    for name in present.keys() - before.keys():
        del present[name]
    for name, value in before.items():
        if present.get(name) is not value:
            present[name] = value


def _check_logits(network: nn.Module, traced: Trace, images: Tensor, expected: Tensor) -> None:
    """Check that the graph computes what the network computes, with other random numbers than it was recorded with."""
    try:
        found = Runner(network, traced, (), (), lambda tensor: None)(images.detach().clone())
    except OtherPath as error:
        raise AdvfoolError(
            f"{type(network).__name__} takes another path through its layers at each call, even for the same images, "
            "so LRP has no graph to walk. Make its forward pass deterministic, or use a gradient-based interpreter."
        ) from error
    if found.shape == expected.shape:
        scale = expected.abs().nan_to_num().max() if expected.numel() else 0
        close = torch.isclose(found, expected, 0, float(scale) * torch.finfo(expected.dtype).eps ** 0.5, equal_nan=True)
        if bool(close.all()):
            return
    raise AdvfoolError(
        f"The graph that LRP walks computes other logits than {type(network).__name__} itself. Something in its "
        "forward pass is not recorded: values computed outside torch (numpy, .item()), random numbers that do not "
        "depend on the images, or a state that changes from call to call. Change it, or use a gradient-based "
        "interpreter."
    )
