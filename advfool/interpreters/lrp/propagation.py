"""Walk from the logits back to a site and share relevance at each node by its rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from advfool.interpreters.lrp.composites import Composite
from advfool.interpreters.lrp.layers import Layer
from advfool.interpreters.lrp.linear import LinearMap, batch_norm_scale, convolution_map, linear_map, module_map
from advfool.interpreters.lrp.operations import LINEAR
from advfool.interpreters.lrp.planner import BATCH_NORM_NAMES, CONVOLUTION_NAMES, Planner, Step, layer_arguments
from advfool.interpreters.lrp.rules import Relevance
from advfool.interpreters.tracing.graph import Trace, execute, target_name
from advfool.interpreters.tracing.recording import Recording
from advfool.interpreters.tracing.sites import Site
from advfool.interpreters.tracing.threads import lock_of
from advfool.utilities.errors import AdvfoolError


@dataclass(frozen=True)
class Propagation:
    """Propagate relevance from the logits to a site by the rules of a composite.

    Args:
        site: the activation at which the walk ends.
        composite: the rules.
    """

    site: Site
    composite: Composite

    @property
    def leaves(self) -> frozenset[type]:
        """The module classes that must not be traced into."""
        return self.composite.leaves

    def reads(self, trace: Trace) -> set[fx.Node]:
        """Return the nodes whose values the walk reads.

        Raises:
            AdvfoolError: a node on the way has no rule.
        """
        return set(trace.sites[self.site]).union(*(step.reads for step in self.steps(trace)))

    def steps(self, trace: Trace) -> tuple[Step, ...]:
        """Return the steps of the walk, from the logits back; they are cached in the trace.

        Raises:
            AdvfoolError: a node on the way has no rule.
        """
        if self not in trace.plans:
            trace.plans[self] = Planner(trace, self.site, self.composite).steps()
        return trace.plans[self]

    def __call__(self, recording: Recording, start: Tensor) -> list[Tensor]:
        """Compute the relevance of the site's tensors.

        Args:
            recording: a forward pass that was recorded for this walk.
            start: the relevance of the logits, of the shape of the logits.

        Raises:
            AdvfoolError: the recording has no graph.
        """
        if recording.trace is None:
            raise AdvfoolError("The recording has no graph. Pass the LRP interpreter to record() as a reader.")
        with (
            lock_of(recording.network),  # rules run modules and read parameters
            torch.inference_mode(False),
            torch.set_grad_enabled(recording.create_graph),
        ):
            return self._walk(recording, recording.trace, start)

    def _walk(self, recording: Recording, trace: Trace, start: Tensor) -> list[Tensor]:
        values = recording.values
        relevance: dict[fx.Node, Relevance] = {trace.logits: start}
        sums: set[fx.Node] = set()  # nodes whose relevance was computed here and may be changed in place
        for step in self.steps(trace):
            arrived = relevance.pop(step.node, None)
            if arrived is None:
                continue
            layer = _layer(step, values, recording.network, trace.modules)
            for node, share in zip(step.inputs, step.rule(layer, arrived), strict=False):
                if share is None:
                    continue
                present = relevance.get(node)
                if present is None:
                    relevance[node] = share
                elif node in sums and not torch.is_grad_enabled() and isinstance(present, Tensor):
                    present.add_(cast(Tensor, share))
                else:
                    relevance[node] = _add(present, share)
                    sums.add(node)
        found = [relevance.get(node) for node in trace.sites[self.site]]
        nodes = zip(found, trace.sites[self.site], strict=True)
        return [share if isinstance(share, Tensor) else torch.zeros_like(values[node]) for share, node in nodes]


def _add(a: Relevance, b: Relevance) -> Relevance:
    """Add two relevances of the same value; None counts as zero."""
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, tuple) and isinstance(b, tuple):
        return tuple(cast(Tensor | None, _add(x, y)) for x, y in zip(a, b, strict=True))
    return cast(Tensor, a) + cast(Tensor, b)


def _layer(step: Step, values: Mapping[fx.Node, Any], network: nn.Module, modules: Mapping[str, nn.Module]) -> Layer:
    """Describe the step's layer to its rule, with the values that the rule reads."""
    if not step.rule.reads_input:
        return Layer()

    def call(*inputs: Any) -> Any:
        return execute(step.node, {**values, **dict(zip(step.inputs, inputs, strict=True))}, network, modules)

    linear = None
    if step.linear is not None:
        linear = _map_of(step.linear, values, modules)
        if step.linear is not step.node:
            linear = linear.scaled(*_scale_of(step.node, values, modules))
    output = values[step.node] if step.rule.reads_output else None
    return Layer([values[node] for node in step.inputs], output, call, linear, step.nonnegative)


def _map_of(node: fx.Node, values: Mapping[fx.Node, Any], modules: Mapping[str, nn.Module]) -> LinearMap:
    if node.op == "call_module":
        return module_map(modules[target_name(node)])
    arguments = layer_arguments(node, CONVOLUTION_NAMES, values)
    return linear_map(**arguments) if node.target in LINEAR else convolution_map(**arguments)


def _scale_of(node: fx.Node, values: Mapping[fx.Node, Any], modules: Mapping[str, nn.Module]) -> tuple[Tensor, Tensor]:
    if node.op == "call_module":
        module = cast(nn.BatchNorm2d, modules[target_name(node)])  # or a class with the same attributes
        return batch_norm_scale(
            _given(module.running_mean), _given(module.running_var), module.weight, module.bias, eps=module.eps
        )
    return batch_norm_scale(**layer_arguments(node, BATCH_NORM_NAMES, values))


def _given(statistic: Tensor | None) -> Tensor:
    assert statistic is not None  # the planner refuses batch norms without running statistics
    return statistic
