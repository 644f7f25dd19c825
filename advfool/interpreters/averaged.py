"""Interpreters that average over many passes of their own: SmoothGrad and Integrated Gradients.

Their memory is bounded: so many passes at a time as `chunk` says, and while training each chunk is run again when
its gradient is needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advfool.errors import AdvfoolError, check_choice
from advfool.heatmaps import Normalise
from advfool.interpreters.base import Interpreter, LayerInterpreter
from advfool.interpreters.gradient import SimpleGrad
from advfool.random_numbers import random_state, set_random_state
from advfool.recording import Recording, record
from advfool.sites import Site


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise AdvfoolError(f"{name} must be at least 1, got {value}.")


@dataclass(frozen=True)
class SmoothGrad(Interpreter):
    """The mean of an interpreter's maps over `samples` noisy copies of the image, then normalised as they are.

    std: of the Gaussian noise, in the network's normalised input; with `relative`, a share of each image's range.
    Measuring takes the same draws from `seed` for every image and network, training fresh ones. `chunk`: noisy
    copies of the batch in memory at a time.

    Source: Smilkov et al. 2017, with the noise of Heo et al. 2019; Smilkov et al. have `relative`.
    """

    interpreter: Interpreter = SimpleGrad()
    samples: int = 16
    std: float = 0.1
    relative: bool = False
    seed: int = 0
    chunk: int = 4
    normalise: str | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        _check_count("samples", self.samples)
        _check_count("chunk", self.chunk)
        if self.std < 0:
            raise AdvfoolError(f"std must not be negative, got {self.std}.")
        if self.normalise is None:
            object.__setattr__(self, "normalise", getattr(self.interpreter, "normalise", "max"))
        check_choice("normalise", self.normalise, Normalise)

    @property
    def signed(self) -> bool:
        return self.interpreter.signed and self.normalise != "minmax"

    @property
    def layer(self) -> str | None:
        """Where the interpreter looks."""
        return getattr(self.interpreter, "layer", None)

    def for_training(self) -> Interpreter:
        return replace(self, interpreter=self.interpreter.for_training(), fresh=True)

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        network, inner = recording.network, self.interpreter.unnormalised()
        classes = recording.classes(targets)

        def maps(draws: Tensor, images: Tensor) -> Tensor:
            noisy = (images + draws).flatten(0, 1)
            found = inner(network, noisy, classes.repeat(len(draws)))
            return found.unflatten(0, (len(draws), len(images))).sum(dim=0)

        with torch.inference_mode(False), torch.set_grad_enabled(recording.create_graph):
            draws = self._noise(recording.images).split(self.chunk)
            return self.scale(_bounded_sum(maps, draws, recording, (recording.images,)) / self.samples)

    def _noise(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "samples m c h w"]:
        shape = (self.samples, len(images) if self.fresh else 1, *images.shape[1:])
        if self.fresh:
            noise = torch.randn(shape, device=images.device, dtype=images.dtype)
        else:
            # From the CPU, so that every device measures with the same draws.
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed)).to(images)
        if self.relative:
            low, high = images.detach().flatten(1).aminmax(dim=1)
            noise = noise * (high - low)[:, None, None, None]
        return self.std * noise


@dataclass(frozen=True)
class IntegratedGradients(LayerInterpreter):
    """`sum_k (x_k - x'_k) * mean_t(d score / d x_k at x' + t (x - x'))`, midpoint rule over `steps` points.

    Signed: without normalisation a map sums to score(x) - score(x'). At a layer, x and x' are its activations for
    the image and for the baseline image. baseline: the value of all its pixels in the network's normalised input;
    0 is the data's mean colour, one number for each channel is another colour.
    `chunk`: points of the batch's paths in memory at a time.

    Source: Sundararajan et al. 2017, eqs. 1 and 3.
    """

    steps: int = 16
    baseline: float | Sequence[float] = 0.0
    chunk: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_count("steps", self.steps)
        _check_count("chunk", self.chunk)

    @property
    def signed(self) -> bool:
        return self.normalise != "minmax"

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    def read(self, recording: Recording, targets: Int[Tensor, "n"] | int) -> Float[Tensor, "n h w"]:
        images, network, classes = recording.images, recording.network, recording.classes(targets)
        end = recording.at(self.site)
        with torch.inference_mode(False), torch.set_grad_enabled(recording.create_graph):
            baseline = self._baseline(images)
            start = [baseline] if self.layer is None else record(network, baseline, [self]).at(self.site)
            if not recording.create_graph:
                start, end = ([t.detach() for t in tensors] for tensors in (start, end))
            ends = (*start, *end)

            def gradients(points: Tensor, *ends: Tensor) -> Tensor:
                start, end = ends[: len(ends) // 2], ends[len(ends) // 2 :]
                path = [torch.cat([a + t * (b - a) for t in points]) for a, b in zip(start, end, strict=True)]
                repeated = images.repeat(len(points), 1, 1, 1)
                # The path of a layer starts there; the images only give the pass its shape.
                own = record(network, repeated, [self], {self.site: path})
                found = self.as_maps(own.gradients(classes.repeat(len(points)), self.site))
                return found.unflatten(0, (len(points), len(images))).sum(dim=0)

            points = ((torch.arange(self.steps, dtype=images.dtype, device=images.device) + 0.5) / self.steps).to(
                end[0]
            )
            mean = _bounded_sum(gradients, points.split(self.chunk), recording, ends) / self.steps
            difference = self.as_maps(list(end)) - self.as_maps(list(start))
            return self.scale((difference * mean).sum(dim=1))

    def _baseline(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        value = torch.as_tensor(self.baseline, dtype=images.dtype, device=images.device)
        if value.numel() not in (1, images.shape[1]):
            raise AdvfoolError(
                f"baseline: expected one number or {images.shape[1]} (one a channel), got {self.baseline}."
            )
        return value.reshape(-1, 1, 1).expand(images.shape[1:]).expand_as(images)


def _bounded_sum(
    function: Callable[..., Tensor], chunks: Sequence[Tensor], recording: Recording, tensors: Sequence[Tensor] = ()
) -> Tensor:
    """`sum(function(chunk, *tensors) for chunk in chunks)` with the memory of one chunk.

    Differentiable in the network's parameters and `tensors`: each chunk is run again for its gradient.
    """
    if not recording.create_graph or len(chunks) == 1:
        return sum(function(chunk, *tensors) for chunk in chunks)
    parameters = [p for p in recording.network.parameters() if p.requires_grad]
    return _RunAgain.apply(function, chunks, len(tensors), *tensors, *parameters)


class _RunAgain(torch.autograd.Function):
    """The sum over chunks, without a graph; the backward pass makes the graph of one chunk at a time."""

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
    def backward(ctx, gradient):
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
                set_random_state(ctx.device, state)  # the same dropout as in the forward pass
                tensors = [t.detach().requires_grad_(t.requires_grad) for t in inputs[: ctx.count]]
                wanted = [*tensors, *inputs[ctx.count :]]
                needed = [i for i, t in enumerate(wanted) if t.requires_grad]
                found = torch.autograd.grad(
                    ctx.function(chunk, *tensors), [wanted[i] for i in needed], gradient, allow_unused=True
                )
            for i, value in zip(needed, found, strict=True):
                if value is not None:
                    totals[i] = value if totals[i] is None else totals[i] + value
        return (None, None, None, *totals)
