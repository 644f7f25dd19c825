"""'Free' adversarial training as a callback."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from advfool.data.samples import InputFormat, Sample
from advfool.evaluation.attacks import check_ranges
from advfool.utilities.errors import AdvfoolError


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
        check_ranges("attack=free", {"epsilon": (epsilon, 0), "step": (step, 0), "replays": (replays, 1)})
        self.input, self.epsilon, self.replays, self.step = input, epsilon, replays, step
        self.delta: Tensor | None = None  # in pixels, for each image of a batch
        self.batch: Sample | None = None  # the one being trained on, and its images where they were
        self.unmoved: Tensor | None = None
        self.preserve: _Listening | None = None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if getattr(module, "cached_original", None):
            raise AdvfoolError(
                "attack=free moves the training images, so nothing that the original network says of them can be kept: "
                f"expected no kept values, got some of {', '.join(module.cached_original)}. Use cache_original=false."
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
