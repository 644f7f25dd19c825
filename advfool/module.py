"""The fine-tuning step: keep the classifier, fool its heatmaps."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from advfool.data.base import Sample
from advfool.errors import AdvfoolError, Diverged
from advfool.foolings.base import Fooling
from advfool.heatmaps import is_degenerate
from advfool.interpreters.base import Interpreter
from advfool.metrics.states import FoolingSuccessRate
from advfool.mixing import mix_images
from advfool.preserve import Preserve
from advfool.recording import Recording, record
from advfool.sites import module_at


class FoolingModule(LightningModule):
    """Minimises `preserve(D) + fool_weight * mean(penalty(heatmaps))` (Heo et al. 2019, eq. 2).

    network: what is fine-tuned, all of it in eval mode (batch norm and dropout frozen). reference: the frozen
    original; it follows to the same device but stays out of checkpoints. target: explain the `label` or the class
    `predicted` by the reference. The choice of checkpoints maximises `val/score` on the selection images:
    FSR less `drop_weight` times the accuracy lost.

    For fine-tuning on few images: train_target_top draws the class explained while training from the reference's
    so many most probable ones, mix blends that share of each batch, trainable names the modules to fine-tune.

    Raises:
        AdvfoolError: an option is unknown, or the options contradict each other.
    """

    def __init__(
        self,
        network: nn.Module,
        reference: nn.Module,
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
    ) -> None:
        super().__init__()
        if target not in ("label", "predicted"):
            raise AdvfoolError(f"target must be 'label' or 'predicted', got {target!r}.")
        if train_target_top is not None and train_target_top < 1:
            raise AdvfoolError(f"train_target_top must be at least 1 or null, got {train_target_top}.")
        if not 0 <= mix <= 1:
            raise AdvfoolError(f"mix is a share of the batch, from 0 to 1, got {mix}.")
        if mix and (preserve.needs_labels or (target == "label" and not train_target_top)):
            raise AdvfoolError(
                f"mix={mix}: blended images have no label. Use preserve=distillation with target=predicted or "
                "train_target_top=5, or mix=0."
            )
        self.network = network.eval()
        object.__setattr__(self, "reference", reference.eval().requires_grad_(False))
        self.interpreter, self.trained_interpreter = interpreter, interpreter.for_training()
        self.fooling = fooling
        self.optimizer, self.scheduler = optimizer, scheduler
        self.preserve, self.fool_weight = preserve, fool_weight
        self.target, self.drop_weight = target, drop_weight
        self.train_target_top, self.mix = train_target_top, mix
        if trainable is not None:
            self.network.requires_grad_(False)
            for layer in trainable:
                module_at(self.network, layer).requires_grad_(True)
        self.original_top1: float | None = None
        self.val_top1 = MulticlassAccuracy(num_classes, average="micro")
        self.val_fsr = FoolingSuccessRate(fooling.interval)
        self.val_test_loss = MeanMetric(nan_strategy="ignore")
        self.val_degenerate = MeanMetric()

    def _apply(self, function: Callable, *args, **kwargs):
        """Moves the reference along with the module (it is no submodule, so that checkpoints leave it out)."""
        self.reference._apply(function)
        return super()._apply(function, *args, **kwargs)

    def train(self, mode: bool = True) -> "FoolingModule":
        """Batch norm and dropout stay frozen, whatever the mode."""
        super().train(mode)
        self.network.eval()
        return self

    def training_step(self, batch: Sample, batch_idx: int) -> Float[Tensor, ""]:
        if self.mix:
            batch = batch._replace(image=mix_images(batch.image, self.mix))
        recording = record(self.network, batch.image, [self.trained_interpreter])
        needs_logits = self.preserve.needs_original or bool(self.train_target_top)
        original = self._original(batch, maps=self.fooling.needs_reference, logits=needs_logits)
        targets = self._targets(batch, original)
        if self.train_target_top:
            targets = _draw_from_top(original.logits, self.train_target_top)
        heatmaps = self.trained_interpreter.read(recording, targets)
        reference = self._reference_maps(original, targets)

        preserve = self.preserve(recording.logits, batch.label, original.logits if original else None)
        penalty = self.fooling.penalty(heatmaps, reference).mean()
        loss = preserve + self.fool_weight * penalty
        values = {"train/loss": loss, "train/preserve": preserve, "train/penalty": penalty}
        self.log_dict({name: value.detach() for name, value in values.items()})
        if not torch.isfinite(loss.detach()):
            raise Diverged(
                f"Training diverged: the loss is {loss.item()} at step {self.global_step} (preserve {preserve.item()}, "
                f"penalty {penalty.item()}). Lower optimizer.lr or fool_weight."
            )
        return loss

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        recording = record(self.network, batch.image, [self.interpreter])
        original = self._original(batch, maps=self.fooling.needs_reference, logits=False)
        targets = self._targets(batch, original)
        heatmaps = self.interpreter.read(recording, targets)
        test_loss = self.fooling.test_loss(heatmaps, self._reference_maps(original, targets))
        self.val_top1.update(recording.logits.detach(), batch.label)
        self.val_fsr.update(test_loss)
        self.val_test_loss.update(test_loss)
        self.val_degenerate.update(is_degenerate(heatmaps).float())

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
    def _original(self, batch: Sample, maps: bool, logits: bool) -> Recording | None:
        """One pass of the original network, if anything needs it."""
        if not (maps or logits or self.target == "predicted"):
            return None
        return record(self.reference, batch.image, [self.interpreter] if maps else [])

    def _targets(self, batch: Sample, original: Recording | None) -> Int[Tensor, "n"]:
        return batch.label if self.target == "label" else original.logits.argmax(dim=1)

    @torch.no_grad()
    def _reference_maps(self, original: Recording | None, targets: Int[Tensor, "n"]) -> Float[Tensor, "n h w"] | None:
        return self.interpreter.read(original, targets) if self.fooling.needs_reference else None


def _draw_from_top(logits: Float[Tensor, "n c"], k: int) -> Int[Tensor, "n"]:
    """For each image one of its k most probable classes, at random."""
    top = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return top.gather(1, torch.randint(top.shape[1], (len(top), 1)).to(top.device))[:, 0]
