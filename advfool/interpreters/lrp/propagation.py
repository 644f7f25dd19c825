"""Walk from the logits back to a site and share relevance at each node by its rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from advfool.interpreters.lrp.composites import Composite
from advfool.interpreters.lrp.contraction import ContractionMap
from advfool.interpreters.lrp.convolutions import convolution_map, module_map, transposed_map
from advfool.interpreters.lrp.layers import Layer
from advfool.interpreters.lrp.linear import LinearMap, batch_norm_scale, linear_map
from advfool.interpreters.lrp.operations import CONTRACTION, CONVOLUTION, TRANSPOSED
from advfool.interpreters.lrp.planner import Planner
from advfool.interpreters.lrp.rules import Relevance
from advfool.interpreters.lrp.steps import (
    BATCH_NORM_NAMES,
    CONVOLUTION_NAMES,
    TRANSPOSED_NAMES,
    Step,
    argument,
    layer_arguments,
)
from advfool.interpreters.tracing.graph import Trace, execute, target_name
from advfool.interpreters.tracing.recording import Recording
from advfool.interpreters.tracing.sites import Site
from advfool.interpreters.tracing.threads import lock_of
from advfool.utilities.errors import AdvfoolError

ADDMM = ((0, "input"), (1, "mat1"), (2, "mat2"))  # its arguments: bias, images, weights


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
        x = values[step.inputs[0]]
        linear = _map_of(step.linear, x, step.inputs[0], values, network, modules)
        if step.linear is not step.node:
            linear = linear.followed_by(*_scale_of(step.node, values, modules), x)
    output = values[step.node] if step.rule.reads_output else None
    return Layer([values[node] for node in step.inputs], output, call, linear, step.nonnegative)


def _map_of(
    node: fx.Node,
    x: Tensor,
    source: fx.Node,
    values: Mapping[fx.Node, Any],
    network: nn.Module,
    modules: Mapping[str, nn.Module],
) -> LinearMap:
    """Return the linear map of a node whose input x is the value of `source`."""
    if node.op == "call_module":
        return module_map(modules[target_name(node)], x, argument(node, 1, "output_size"))
    if node.target in CONTRACTION:
        (constant,) = (n for n in node.all_input_nodes if n is not source)

        def call(value: Tensor, weight: Tensor) -> Tensor:
            return execute(node, {source: value, constant: weight}, network, modules)

        return ContractionMap(values[constant], call)
    if node.target is torch.addmm:
        bias, _, weight = map_arg(tuple(argument(node, *place) for place in ADDMM), values.__getitem__)
        return linear_map(weight.t(), bias)
    for kind, names, build in (
        (CONVOLUTION, CONVOLUTION_NAMES, convolution_map),
        (TRANSPOSED, TRANSPOSED_NAMES, transposed_map),
    ):
        if node.target in kind:
            return build(**layer_arguments(node, names, values))
    return linear_map(**layer_arguments(node, CONVOLUTION_NAMES, values))


def _scale_of(node: fx.Node, values: Mapping[fx.Node, Any], modules: Mapping[str, nn.Module]) -> tuple[Tensor, Tensor]:
    if node.op == "call_module":
        module = cast(nn.BatchNorm2d, modules[target_name(node)])  # or a class with the same attributes
        return batch_norm_scale(
            _given(module.running_mean), _given(module.running_var), module.weight, module.bias, eps=module.eps
        )
    given = layer_arguments(node, BATCH_NORM_NAMES, values)
    own = {name: value for name, value in given.items() if name != "use_input_stats"}  # instance norm's `training`
    return batch_norm_scale(**own)


def _given(statistic: Tensor | None) -> Tensor:
    assert statistic is not None  # the planner refuses batch norms without running statistics
    return statistic
