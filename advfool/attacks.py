"""Adversarial images: projected gradient descent to measure with, 'free' adversarial training to defend with."""

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from advfool.data.base import InputFormat, Sample
from advfool.errors import AdvfoolError, check_choice
from advfool.random_numbers import uniform

Norm = Literal["linf", "l2"]


def pgd(
    network: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, "n"],
    input_format: InputFormat,
    epsilon: float,
    step: float,
    steps: int = 20,
    restarts: int = 1,
    norm: str = "linf",
    random_start: bool = True,
    seed: int = 0,
    index: Int[Tensor, "n"] | None = None,
) -> Float[Tensor, "n 3 h w"]:
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
    check_choice("norm", norm, Norm)
    _check_settings("PGD", {"epsilon": (epsilon, 0), "step": (step, 0), "steps": (steps, 0), "restarts": (restarts, 1)})
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


def adversarial_accuracy(network: nn.Module, loader: Iterable[Sample], input_format: InputFormat, **attack) -> float:
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
    clean: Float[Tensor, "n 3 h w"], norm: str, seed: int, index: Int[Tensor, "n"], restart: int
) -> Float[Tensor, "n 3 h w"]:
    """A point of the unit ball for each image, every one equally probable."""
    size = clean[0].numel()
    numbers = uniform(seed, index, torch.arange(size + 1, device=clean.device)[None], stream=restart)
    points, last = numbers[:, :size], numbers[:, size:]
    if norm == "linf":
        points = 2 * points - 1
    else:  # a direction from normal numbers; the volume within a radius goes with its power of the dimension
        points = F.normalize(torch.special.ndtri(points.clamp_min(2**-54)), dim=1) * last ** (1 / size)
    return points.view_as(clean).to(clean)


def _uphill(gradient: Float[Tensor, "n 3 h w"], norm: str) -> Float[Tensor, "n 3 h w"]:
    """The steepest direction of unit length; 0 where there is none."""
    if norm == "linf":
        return gradient.sign()
    length = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
    return gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny)


def _into_ball(delta: Float[Tensor, "n 3 h w"], epsilon: float, norm: str) -> Float[Tensor, "n 3 h w"]:
    """The nearest point of the ball."""
    if norm == "linf":
        return delta.clamp(-epsilon, epsilon)
    return delta.renorm(2, 0, epsilon)


class FreeAdversarialTraining(Callback):
    """'Free' adversarial training: each batch is trained on `replays` times, while its images climb the loss.

    The images are moved by at most `epsilon` a pixel, in pixels from 0 to 1, and clipped to [0, 1]. After each step the
    perturbation goes on by `step` (None: epsilon) along the sign of the gradient at the moved images. It is kept from
    batch to batch, in each process its own; a resumed training goes on with the first process's. Of active fooling's
    batches the images move, the composites stay.

    What the images climb is the classification loss. Of a module that `preserve`s the classification while it fools
    heatmaps, this is the cross-entropy of the labels, so that the images do not turn against the penalty instead; its
    gradient at the images costs a part of a backward pass. Any other module's training loss is that loss, and its
    backward pass has yielded the gradient.

    Raises:
        AdvfoolError: a setting is out of range; the module blends images, or keeps what was said of the unmoved ones.
    Source: Shafahi et al. 2019, Algorithm 1, where training loss and classification loss are one.
    """

    def __init__(self, input: InputFormat, epsilon: float, replays: int = 4, step: float | None = None) -> None:
        step = epsilon if step is None else step
        _check_settings("attack=free", {"epsilon": (epsilon, 0), "step": (step, 0), "replays": (replays, 1)})
        self.input, self.epsilon, self.replays, self.step = input, epsilon, replays, step
        self.delta: Tensor | None = None  # in pixels, for each image of a batch
        self.batch: Sample | None = None  # the one being trained on, and its images where they were
        self.unmoved: Tensor | None = None
        self.preserve: _Listening | None = None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if getattr(module, "kept", None):
            raise AdvfoolError(
                "attack=free moves the training images, so nothing that the original network says of them can be kept: "
                f"expected no kept values, got some of {', '.join(module.kept)}. Use keep_reference=false."
            )
        if getattr(module, "mix", 0):
            raise AdvfoolError(
                f"attack=free cannot climb the loss of blended images: expected mix=0, got {module.mix}."
            )
        if trainer.datamodule is not None:
            trainer.datamodule.replays = self.replays

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Sample | dict[str, Sample], batch_idx: int
    ) -> None:
        self.batch = batch["images"] if isinstance(batch, dict) else batch
        image = self.batch.image
        if self.delta is None or self.delta.shape[1:] != image.shape[1:] or len(self.delta) < len(image):
            self.delta = torch.zeros_like(image)
        self.delta = self.delta.to(image.device)
        self.unmoved = image.data
        pixels = self.input.pixels(image) + self.delta[: len(image)]
        image.data = self.input.normalise(pixels.clamp(0, 1))  # other memory: what the loader holds stays as it is
        image.requires_grad_()
        if hasattr(module, "preserve"):
            self.preserve = module.preserve = _Listening(module.preserve)

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        if self.preserve is not None:  # the sum's gradient, because the mean's may be too small for half precision
            climbed = F.cross_entropy(self.preserve.logits.float(), self.batch.label, reduction="sum")
            self._climb(torch.autograd.grad(climbed, self.batch.image, retain_graph=True)[0])

    def on_after_backward(self, trainer: Trainer, module: LightningModule) -> None:
        if self.preserve is None:
            self._climb(self.batch.image.grad)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_) -> None:
        self._release(module)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._release(module)

    def state_dict(self) -> dict[str, Tensor | None]:
        return {"delta": self.delta}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        self.delta = state["delta"]

    def _climb(self, gradient: Float[Tensor, "n 3 h w"]) -> None:
        delta = self.delta[: len(gradient)]
        delta.add_(gradient.nan_to_num().sign(), alpha=self.step).clamp_(-self.epsilon, self.epsilon)

    def _release(self, module: LightningModule) -> None:
        """Puts everything back: a loader may serve the same batch again."""
        if self.batch is not None:
            image = self.batch.image.requires_grad_(False)
            image.data, image.grad = self.unmoved, None
        if self.preserve is not None:
            module.preserve = self.preserve.inner
        self.batch = self.unmoved = self.preserve = None


class _Listening:
    """What preserves the classification, and the logits that it was given."""

    def __init__(self, inner: object) -> None:
        self.inner, self.logits = inner, None

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def __call__(self, logits: Tensor, labels: Tensor, original: Tensor | None) -> Tensor:
        self.logits = logits
        return self.inner(logits, labels, original)


def _check_settings(of: str, settings: Mapping[str, tuple[float, float]]) -> None:
    """settings: by name the value and the least that it may be."""
    for name, (value, least) in settings.items():
        if not least <= value < math.inf:
            raise AdvfoolError(f"{of}: {name} must be at least {least}, got {value}.")
