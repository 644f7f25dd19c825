"""Adversarial images: projected gradient descent."""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.data.samples import ImageFormat, Sample
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, NonNegative, Size
from advfool.utilities.random import uniform

Norm = Literal["linf", "l2"]


@checked
def pgd(
    network: nn.Module,
    images: Float[Tensor, "n channels h w"],
    labels: Int[Tensor, "n"],
    input_format: ImageFormat,
    epsilon: NonNegative,
    step: NonNegative,
    steps: Size = 20,
    restarts: Count = 1,
    norm: Norm = "linf",
    random_start: bool = True,
    seed: int = 0,
    index: Int[Tensor, "n"] | None = None,
) -> Float[Tensor, "n channels h w"]:
    """Images near the given ones, normalised like them, on which the cross-entropy of the labels is high.

    The attack moves pixels, which run from 0 to 1: `epsilon`, the radius of the ball that it keeps to, and `step` are
    in these units. It starts anywhere in the ball (`random_start`) and takes `steps` steps, along the gradient's sign
    in the ball of the maximum norm (`linf`), along the gradient itself, scaled to the length `step`, in that of the
    Euclidean norm of the whole image (`l2`). Of `restarts` attacks each image keeps the one with the highest loss.
    Starts depend on the seed and on the image's `index` (None: its place in the batch), not on batch or device. The
    network should be in eval mode; it is left as it was.

    Raises:
        AdvfoolError: a setting is out of range.
    Source: Madry et al. 2018, Section 2.1. captum's PGD takes the gradient's sign in both balls.
    """
    if restarts > 1 and not random_start:
        raise AdvfoolError(f"PGD: restarts={restarts} without a random start are all the same. Use restarts=1.")
    with torch.inference_mode(False), torch.enable_grad():
        images, labels = images.detach().clone(), labels.clone()  # copies that gradients can be taken with
        clean = input_format.pixels(images)
        index = torch.arange(len(images), device=images.device) if index is None else index.to(images.device)

        def loss(pixels: Tensor) -> Tensor:
            return F.cross_entropy(network(input_format.normalise(pixels)), labels, reduction="none")

        found, highest = clean, torch.full_like(clean[:, 0, 0, 0], -torch.inf)
        for restart in range(restarts):
            start = _somewhere(clean, norm, seed, index, restart) if random_start else torch.zeros_like(clean)
            pixels = (clean + epsilon * start).clamp(0, 1)
            for _ in range(steps):
                pixels.requires_grad_()
                (gradient,) = torch.autograd.grad(loss(pixels).sum(), pixels)
                moved = pixels.detach() + step * _uphill(gradient, norm)
                pixels = (clean + _into_ball(moved - clean, epsilon, norm)).clamp(0, 1)
            with torch.no_grad():
                reached = loss(pixels).to(highest)
            higher = reached > highest
            found = torch.where(higher[:, None, None, None], pixels, found)
            highest = torch.where(higher, reached, highest)
        return input_format.normalise(found)


def adversarial_accuracy(network: nn.Module, loader: Iterable[Sample], input_format: ImageFormat, **attack) -> float:
    """Top-1 accuracy on adversarial images, as a fraction; `attack` are the settings of `pgd`."""
    device = next(network.parameters()).device
    correct = []
    for batch in loader:
        images, labels = batch.image.to(device), batch.label.to(device)
        attacked = pgd(network, images, labels, input_format, index=batch.index, **attack)
        with torch.no_grad():
            correct.append(network(attacked).argmax(dim=1) == labels)
    return torch.cat(correct).double().mean().item()


def _somewhere(
    clean: Float[Tensor, "n channels h w"], norm: str, seed: int, index: Int[Tensor, "n"], restart: int
) -> Float[Tensor, "n channels h w"]:
    """A point of the unit ball for each image, every one equally probable."""
    size = clean[0].numel()
    numbers = uniform(seed, index, torch.arange(size + 1, device=clean.device)[None], stream=restart)
    points, last = numbers[:, :size], numbers[:, size:]
    if norm == "linf":
        points = 2 * points - 1
    else:  # a direction from normal numbers; the volume within a radius goes with its power of the dimension
        points = F.normalize(torch.special.ndtri(points.clamp_min(2**-54)), dim=1) * last ** (1 / size)
    return points.view_as(clean).to(clean)


def _uphill(gradient: Float[Tensor, "n channels h w"], norm: str) -> Float[Tensor, "n channels h w"]:
    """The steepest direction of unit length; 0 where there is none."""
    if norm == "linf":
        return gradient.sign()
    length = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
    return gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny)


def _into_ball(delta: Float[Tensor, "n channels h w"], epsilon: float, norm: str) -> Float[Tensor, "n channels h w"]:
    """The nearest point of the ball."""
    if norm == "linf":
        return delta.clamp(-epsilon, epsilon)
    return delta.renorm(2, 0, epsilon)
