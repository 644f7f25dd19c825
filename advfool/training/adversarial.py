"""'Free' adversarial training as a callback."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, distributed

from advfool.data.samples import ImageFormat, Sample
from advfool.training.preserve import Preserve
from advfool.training.processes import of_all_processes, of_this_process
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, Positive, Share


class FreeAdversarialTraining(Callback):
    """'Free' adversarial training: each batch is trained on several times, while its images climb the loss.

    The images move by at most `epsilon` a pixel and are clipped to [0, 1]. After each step the perturbation moves by
    `step` along the sign of the gradient at the moved images. It is carried over from batch to batch, in each process
    its own. Of active fooling's batches the images move, the
    composites do not.

    The images climb the classification loss. For a module that preserves the classification while it fools heatmaps,
    this is the cross-entropy of the labels, so that the images do not turn against the penalty instead; its gradient
    costs a part of a backward pass. Any other module's training loss is that loss, and its backward pass has yielded
    the gradient.

    Args:
        input: the format of the images.
        epsilon: the largest perturbation, in pixels from 0 to 1.
        replays: steps on each batch.
        step: of the perturbation, in pixels from 0 to 1; None: epsilon.

    Raises:
        AdvfoolError: a setting is out of range; the module blends images, or caches answers for unmoved ones.
    Source: Shafahi et al. 2019, Algorithm 1, where training loss and classification loss are one.
    """

    @checked
    def __init__(self, input: ImageFormat, epsilon: Share, replays: Count = 4, step: Positive | None = None) -> None:
        step = epsilon if step is None else step
        self.input, self.epsilon, self.replays, self.step = input, epsilon, replays, step
        self.delta: Tensor | None = None  # in pixels, for each image of a batch
        self.batch: Sample | None = None  # the one being trained on
        self.unmoved: Tensor | None = None  # its images where they were
        self.preserve: _Listening | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        cached: Mapping[str, object] = getattr(pl_module, "cached_original", None) or {}
        if cached:
            raise AdvfoolError(
                "attack=free moves the training images, so nothing that the original network says of them can be "
                f"cached: expected no cached values, got some of {', '.join(cached)}. Use cache_original=false."
            )
        mix = getattr(getattr(pl_module, "settings", None), "mix", 0)
        if mix:
            raise AdvfoolError(f"attack=free cannot climb the loss of blended images: expected mix=0, got {mix}.")
        data: Any = getattr(trainer, "datamodule", None)
        if data is not None:
            data.replays = self.replays

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batch = batch["images"] if isinstance(batch, dict) else batch
        image: Tensor = self.batch.image  # type: ignore[union-attr]
        if self.delta is None or self.delta.shape[1:] != image.shape[1:] or len(self.delta) < len(image):
            self.delta = torch.zeros_like(image)
        self.delta = self.delta.to(image.device)
        self.unmoved = image.data
        pixels = self.input.pixels(image) + self.delta[: len(image)]
        image.data = self.input.normalise(pixels.clamp(0, 1))  # other memory: what the loader holds stays as it is
        image.requires_grad_()
        if hasattr(pl_module, "preserve"):
            module: Any = pl_module
            self.preserve = module.preserve = _Listening(module.preserve)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if self.preserve is not None and self.preserve.logits is not None and self.batch is not None:
            # The sum's gradient, because the mean's may be too small for half precision.
            climbed = F.cross_entropy(self.preserve.logits.float(), self.batch.label, reduction="sum")
            self._climb(torch.autograd.grad(climbed, self.batch.image, retain_graph=True)[0])

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.preserve is None and self.batch is not None and self.batch.image.grad is not None:
            self._climb(self.batch.image.grad)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._release(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._release(pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"deltas": of_all_processes(None if self.delta is None else self.delta.cpu())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.delta = of_this_process(state_dict["deltas"], rank)

    def _climb(self, gradient: Float[Tensor, "n c h w"]) -> None:
        if self.delta is not None:
            delta = self.delta[: len(gradient)]
            delta.add_(gradient.nan_to_num().sign(), alpha=self.step).clamp_(-self.epsilon, self.epsilon)

    def _release(self, module: Any) -> None:
        """Put everything back: a loader may serve the same batch again."""
        if self.batch is not None and self.unmoved is not None:
            image = self.batch.image.requires_grad_(False)
            image.data, image.grad = self.unmoved, None
        if self.preserve is not None:
            module.preserve = self.preserve.inner
        self.batch = self.unmoved = self.preserve = None


class _Listening:
    """A loss that preserves the classification, and the logits that it was given last."""

    def __init__(self, inner: Preserve) -> None:
        self.inner: Preserve = inner
        self.logits: Tensor | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def __call__(self, logits: Tensor, labels: Tensor, original: Tensor | None) -> Tensor:
        self.logits = logits
        return self.inner(logits, labels, original)
