"""Sum over many passes with the memory of a few: the backward pass runs each chunk again."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from advfool.interpreters.tracing.recording import Recording
from advfool.interpreters.tracing.threads import lock_of
from advfool.utilities.random import random_state, set_random_state


def bounded_sum(
    function: Callable[..., Tensor], chunks: Sequence[Tensor], recording: Recording, tensors: Sequence[Tensor] = ()
) -> Tensor:
    """Compute `sum(function(chunk, *tensors) for chunk in chunks)` with the memory of one chunk.

    The sum is differentiable in the network's parameters and in `tensors`: the backward pass runs each chunk again.

    Args:
        function: runs the network on a chunk.
        chunks: the chunks, at least one.
        recording: says which network is run and whether the sum must be differentiable.
        tensors: further inputs of `function`, the same for every chunk.
    """
    if not recording.create_graph or len(chunks) == 1:
        total = function(chunks[0], *tensors)
        for chunk in chunks[1:]:
            total = total + function(chunk, *tensors)
        return total
    with lock_of(recording.network):  # a recording in another thread may have replaced parameters for a moment
        parameters = [p for p in recording.network.parameters() if p.requires_grad]
    return _RunAgain.apply(function, chunks, len(tensors), *tensors, *parameters)


class _RunAgain(torch.autograd.Function):
    """Sum over chunks without a graph; the backward pass builds the graph of one chunk at a time."""

    @staticmethod
    def forward(ctx, function, chunks, count, *inputs):
        ctx.function, ctx.chunks, ctx.count = function, chunks, count
        ctx.save_for_backward(*inputs)
        ctx.device = chunks[0].device
        ctx.autocast = torch.is_autocast_enabled(ctx.device.type), torch.get_autocast_dtype(ctx.device.type)
        tensors = [t.detach() for t in inputs[:count]]
        ctx.states, total = [], 0
        for chunk in chunks:
            ctx.states.append(random_state(ctx.device))
            total = total + function(chunk, *tensors)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride] - torch's decorator loses the name
        (gradient,) = grad_outputs
        inputs = ctx.saved_tensors
        totals: list[Tensor | None] = [None] * len(inputs)
        enabled, dtype = ctx.autocast
        gpus = [ctx.device] if ctx.device.type == "cuda" else []
        for chunk, state in zip(ctx.chunks, ctx.states, strict=True):
            with (
                torch.enable_grad(),
                torch.autocast(ctx.device.type, dtype, enabled),
                torch.random.fork_rng(gpus),
            ):
                set_random_state(ctx.device, state)  # repeats the dropout of the forward pass
                tensors = [t.detach().requires_grad_(t.requires_grad) for t in inputs[: ctx.count]]
                wanted = [*tensors, *inputs[ctx.count :]]
                needed = [i for i, t in enumerate(wanted) if t.requires_grad]
                found = torch.autograd.grad(
                    ctx.function(chunk, *tensors), [wanted[i] for i in needed], gradient, allow_unused=True
                )
            for i, value in zip(needed, found, strict=True):
                total = totals[i]
                if value is not None:
                    totals[i] = value if total is None else total + value
        return (None, None, None, *totals)
