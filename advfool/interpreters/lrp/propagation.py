"""The walk from the logits back to a site, one rule for each node."""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from advfool.interpreters.lrp.composites import Composite
from advfool.interpreters.lrp.layers import Layer
from advfool.interpreters.lrp.linear import LinearMap, batch_norm_scale, convolution_map, linear_map, module_map
from advfool.interpreters.lrp.operations import (
    LINEAR,
)
from advfool.interpreters.lrp.planner import BATCH_NORM_NAMES, CONVOLUTION_NAMES, Planner, Step, layer_arguments
from advfool.interpreters.lrp.rules import Relevance
from advfool.interpreters.tracing.graph import Trace, execute
from advfool.interpreters.tracing.recording import Recording
from advfool.interpreters.tracing.sites import Site


@dataclass(frozen=True)
class Propagation:
    """LRP from the logits to `site` with the rules of a composite."""

    site: Site
    composite: Composite

    @property
    def leaves(self) -> frozenset[type]:
        """Module classes that must not be traced into."""
        return self.composite.leaves

    def reads(self, trace: Trace) -> set[fx.Node]:
        """The nodes whose values the walk reads.

        Raises:
            AdvfoolError: a node on the way has no rule.
        """
        return set(trace.sites[self.site]).union(*(step.reads for step in self.steps(trace)))

    def steps(self, trace: Trace) -> tuple[Step, ...]:
        """The walk, from the logits back; made once for each trace."""
        if self not in trace.plans:
            trace.plans[self] = Planner(trace, self.site, self.composite).steps()
        return trace.plans[self]

    def __call__(self, recording: Recording, start: Tensor) -> list[Tensor]:
        """The relevance of the site's tensors.

        start: the relevance of the logits (n, classes).
        """
        with torch.inference_mode(False), torch.set_grad_enabled(recording.create_graph):
            return self._walk(recording, start)

    def _walk(self, recording: Recording, start: Tensor) -> list[Tensor]:
        trace, values = recording.trace, recording.values
        relevance: dict[fx.Node, Relevance] = {trace.logits: start}
        sums: set[fx.Node] = set()  # nodes whose relevance is a tensor of this walk's own
        for step in self.steps(trace):
            arrived = relevance.pop(step.node, None)
            if arrived is None:
                continue
            layer = _layer(step, values, recording.network, trace.modules)
            for node, share in zip(step.inputs, step.rule(layer, arrived), strict=False):
                if share is None:
                    continue
                if node not in relevance:
                    relevance[node] = share
                elif node in sums and not torch.is_grad_enabled() and isinstance(share, Tensor):
                    relevance[node].add_(share)
                else:
                    relevance[node] = _add(relevance[node], share)
                    sums.add(node)
        return [relevance.get(node, torch.zeros_like(values[node])) for node in trace.sites[self.site]]


def _add(a: Relevance, b: Relevance) -> Relevance:
    if a is None or b is None:
        return b if a is None else a
    return tuple(_add(x, y) for x, y in zip(a, b, strict=True)) if isinstance(a, tuple) else a + b


def _layer(step: Step, values: Mapping, network: nn.Module, modules: Mapping[str, nn.Module]) -> Layer:
    if not step.rule.reads_input:
        return Layer()

    def call(*inputs):
        return execute(step.node, ChainMap(dict(zip(step.inputs, inputs, strict=True)), values), network, modules)

    linear = None
    if step.linear is not None:
        linear = _map_of(step.linear, values, modules)
        if step.linear is not step.node:
            linear = linear.scaled(*_scale_of(step.node, values, modules))
    output = values[step.node] if step.rule.reads_output else None
    return Layer([values[node] for node in step.inputs], output, call, linear, step.nonnegative)


def _map_of(node: fx.Node, values: Mapping, modules: Mapping[str, nn.Module]) -> LinearMap:
    if node.op == "call_module":
        return module_map(modules[node.target])
    arguments = layer_arguments(node, CONVOLUTION_NAMES, values)
    return linear_map(**arguments) if node.target in LINEAR else convolution_map(**arguments)


def _scale_of(node: fx.Node, values: Mapping, modules: Mapping[str, nn.Module]) -> tuple[Tensor, Tensor]:
    if node.op == "call_module":
        module = modules[node.target]
        return batch_norm_scale(module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps)
    return batch_norm_scale(**layer_arguments(node, BATCH_NORM_NAMES, values))
