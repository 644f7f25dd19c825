"""The fine-tuning step: keep the classifier, fool its heatmaps."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from advfool.data.samples import Sample
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics.rates import FoolingSuccessRate
from advfool.training.cached_original import CachedOriginal, OriginalAnswers
from advfool.training.mixing import mix_images
from advfool.training.preserve import Preserve
from advfool.utilities.classes import top_classes
from advfool.utilities.errors import AdvfoolError, Diverged
from advfool.utilities.modules import module_at
from advfool.utilities.random import random_state, set_random_state


class FoolingModule(LightningModule):
    """Minimises `preserve(D) + fool_weight * mean(penalty(heatmaps))` (Heo et al. 2019, eq. 2).

    network: what is fine-tuned, all of it in eval mode (batch norm and dropout frozen). original: the frozen
    original; it follows to the same device but stays out of checkpoints. target: explain the `label` or the class
    `predicted` by the original. The choice of checkpoints maximises `val/score` on the selection images:
    FSR less `drop_weight` times the accuracy lost. cached_original: what the original says of the images of `train` or
    `selection`, where they never change. watched: the interpreters that callbacks measure, too.

    A fooling of composites is trained on batches `{"images": ..., "composites": ...}`, and validated on the loaders of
    both in turn; all others take plain batches, on which the classification is preserved, too.

    For fine-tuning on few images: train_target_top draws the class explained while training from the original's
    so many most probable ones, mix blends that share of each batch, trainable names the modules to fine-tune.

    Raises:
        AdvfoolError: an option is unknown, or the options contradict each other.
    """

    def __init__(
        self,
        network: nn.Module,
        original: nn.Module,
        interpreter: Interpreter,
        fooling: Fooling,
        preserve: Preserve,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable | None = None,
        fool_weight: float = 1.0,
        target: str = "label",
        train_target_top: int | None = None,
        mix: float = 0.0,
        trainable: Sequence[str] | None = None,
        drop_weight: float = 5.0,
        num_classes: int = 1000,
        cached_original: Mapping[str, CachedOriginal] | None = None,
        watched: Sequence[Interpreter] = (),
    ) -> None:
        super().__init__()
        if target not in ("label", "predicted"):
            raise AdvfoolError(f"target must be 'label' or 'predicted', got {target!r}.")
        if train_target_top is not None and train_target_top < 1:
            raise AdvfoolError(f"train_target_top must be at least 1 or null, got {train_target_top}.")
        if not 0 <= mix <= 1:
            raise AdvfoolError(f"mix is a share of the batch, from 0 to 1, got {mix}.")
        if mix and fooling.needs_composites:
            raise AdvfoolError(f"mix={mix}: composites cannot be blended. Use mix=0 with fooling={fooling.name}.")
        if train_target_top and fooling.needs_composites:
            raise AdvfoolError(
                f"train_target_top={train_target_top}: composites explain both their classes. Use "
                f"train_target_top=null with fooling={fooling.name}."
            )
        if mix and (preserve.needs_labels or (target == "label" and not train_target_top)):
            raise AdvfoolError(
                f"mix={mix}: blended images have no label. Use preserve=distillation with target=predicted or "
                "train_target_top=5, or mix=0."
            )
        self.network = network.eval()
        object.__setattr__(self, "original", original.eval().requires_grad_(False))
        self.interpreter, self.trained_interpreter = interpreter, interpreter.for_training()
        self.fooling = fooling
        self.optimizer, self.scheduler = optimizer, scheduler
        self.preserve, self.fool_weight = preserve, fool_weight
        self.target, self.drop_weight = target, drop_weight
        self.train_target_top, self.mix, self.cached_original = train_target_top, mix, cached_original or {}
        self.watched = list(watched)
        if trainable is not None:
            self.network.requires_grad_(False)
            for layer in trainable:
                module_at(self.network, layer).requires_grad_(True)
        self.original_top1: float | None = None
        self.random_state: list[Tensor] | None = None
        self.val_top1 = MulticlassAccuracy(num_classes, average="micro")
        self.val_fsr = FoolingSuccessRate(fooling.interval)
        self.val_test_loss = MeanMetric(nan_strategy="ignore")
        self.val_degenerate = MeanMetric()

    def _apply(self, function: Callable, *args, **kwargs):
        """Moves the original along with the module (it is no submodule, so that checkpoints leave it out)."""
        self.original._apply(function)
        return super()._apply(function, *args, **kwargs)

    def train(self, mode: bool = True) -> "FoolingModule":
        """Batch norm and dropout stay frozen, whatever the mode."""
        super().train(mode)
        self.network.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keeps the random state, so that a resumed training draws what an uninterrupted one would."""
        checkpoint["random_state"] = random_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        state = checkpoint.get("random_state")
        self.random_state = [state] if isinstance(state, Tensor) else state  # as earlier versions kept it

    def on_train_start(self) -> None:
        if self.random_state is not None and self.global_rank == 0:
            set_random_state(self.device, self.random_state)

    def training_step(self, batch: Sample | dict[str, Sample], batch_idx: int) -> Float[Tensor, ""]:
        images, composites = (batch["images"], batch["composites"]) if isinstance(batch, dict) else (batch, None)
        if self.mix:
            images = images._replace(image=mix_images(images.image, self.mix))
        explained = images if composites is None else composites
        recording = record(self.network, explained.image, [self.trained_interpreter])
        logits = recording.logits if composites is None else self.network(images.image)

        needs_logits = bool(self.train_target_top) or (composites is None and self.preserve.needs_original)
        original = self._original(explained, "train", self.fooling.needs_original, needs_logits)
        targets = self.targets(explained, original.logits if original else None)
        if self.train_target_top:
            targets = _draw_from_top(original.logits, self.train_target_top)
        heatmaps = read_maps(self.trained_interpreter, recording, targets)
        original_maps = original.maps(targets) if self.fooling.needs_original else None
        if composites is not None:
            original = self._original(images, "images", False, self.preserve.needs_original)

        preserve = self.preserve(logits, images.label, original.logits if original else None)
        penalty = self.fooling.penalty(heatmaps, original_maps).mean()
        loss = preserve + self.fool_weight * penalty
        values = {"train/loss": loss, "train/preserve": preserve, "train/penalty": penalty}
        self.log_dict({name: value.detach() for name, value in values.items()})
        if not self._everywhere(torch.isfinite(loss.detach())):
            raise Diverged(
                f"Training diverged: the loss is {loss.item()} at step {self.global_step} (preserve {preserve.item()}, "
                f"penalty {penalty.item()}). Lower optimizer.lr or fool_weight."
            )
        return loss

    def validation_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        explained = self.fooling.needs_composites == (dataloader_idx == 1)
        recording = record(self.network, batch.image, [self.interpreter] if explained else [])
        if dataloader_idx == 0:
            self.val_top1.update(recording.logits.detach(), batch.label)
        if explained:
            original = self._original(batch, "selection", self.fooling.needs_original, False)
            targets = self.targets(batch, original.logits if original else None)
            heatmaps = read_maps(self.interpreter, recording, targets)
            test_loss = self.fooling.test_loss(
                heatmaps, original.maps(targets) if self.fooling.needs_original else None
            )
            self.val_fsr.update(test_loss)
            self.val_test_loss.update(test_loss)
            self.val_degenerate.update(test_loss.isnan().float())

    def on_validation_epoch_end(self) -> None:
        name = self.interpreter.name
        metrics = {
            "val/top1": self.val_top1,
            f"val/fsr/{name}": self.val_fsr,
            f"val/test_loss/{name}": self.val_test_loss,
            f"val/degenerate/{name}": self.val_degenerate,
        }
        values = {key: metric.compute() for key, metric in metrics.items()}
        for metric in metrics.values():
            metric.reset()
        if self.original_top1 is None:  # the first look is before the first step
            self.original_top1 = values["val/top1"].item()
        lost = max(self.original_top1 - values["val/top1"].item(), 0.0)
        values["val/score"] = values[f"val/fsr/{name}"] - self.drop_weight * lost
        for key, value in values.items():
            self.log(key, value, prog_bar=key == "val/top1" or key.startswith("val/fsr"))

    def configure_optimizers(self):
        optimizer = self.optimizer([p for p in self.network.parameters() if p.requires_grad])
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"},
        }

    @torch.no_grad()
    def _original(self, batch: Sample, split: str, maps: bool, logits: bool) -> OriginalAnswers | None:
        """What the original network says, if anything needs it: looked up, or from one pass."""
        predicted = self.target == "predicted" and batch.label.dim() == 1 and split != "images"
        if not (maps or logits or predicted):
            return None
        if split in self.cached_original:
            return self.cached_original[split].look_up(batch.index)
        recording = record(self.original, batch.image, [self.interpreter] if maps else [])

        @torch.no_grad()
        def read(targets: Tensor) -> Tensor:
            return read_maps(self.interpreter, recording, targets)

        return OriginalAnswers(recording.logits, read)

    def targets(self, batch: Sample, logits: Float[Tensor, "n c"] | None) -> Int[Tensor, "n *two"]:
        """The class to explain of each image, or the two of a composite; logits are the original's."""
        composites = batch.label.dim() == 2
        return batch.label if self.target == "label" or composites else logits.argmax(dim=1)

    def _everywhere(self, holds: Tensor) -> bool:
        """Whether it holds in all processes, so that all of them stop together."""
        return self.trainer.strategy.reduce_boolean_decision(bool(holds), all=True) if self._trainer else bool(holds)


def _draw_from_top(logits: Float[Tensor, "n c"], k: int) -> Int[Tensor, "n"]:
    """For each image one of its k most probable classes, at random."""
    top = top_classes(logits, k)
    return top.gather(1, torch.randint(top.shape[1], (len(top), 1)).to(top.device))[:, 0]
