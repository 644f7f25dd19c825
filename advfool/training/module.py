"""The fine-tuning step: keep the classifier, fool its heatmaps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from advfool.data.samples import Sample
from advfool.evaluation.paired import explained_classes
from advfool.evaluation.setup import Setup
from advfool.foolings.base import CompositeFooling
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.metrics import FoolingSuccessRate
from advfool.metrics.functional import prediction_agreement
from advfool.training.cached_original import CachedOriginal, OriginalAnswers
from advfool.training.free_direction import FreeDirection, HeldMean
from advfool.training.mixing import mix_images
from advfool.training.multiplier import Multiplier, within
from advfool.training.processes import generator_states, of_all_processes, of_this_process, restore_generators
from advfool.training.settings import Training
from advfool.utilities.classes import top_classes
from advfool.utilities.errors import Diverged
from advfool.utilities.modules import module_at


class MapRates(nn.Module):
    """What a validation finds of an interpreter's heatmaps: FSR, mean test loss, share of degenerate maps.

    Args:
        interval: test losses that count as fooled.
    """

    def __init__(self, interval: Sequence[float]) -> None:
        super().__init__()
        self.fsr = FoolingSuccessRate(interval)
        self.test_loss = MeanMetric(nan_strategy="ignore")
        self.degenerate = MeanMetric()

    def forward(self, test_loss: Float[Tensor, "n *two"]) -> None:
        self.fsr.update(test_loss)
        self.test_loss.update(test_loss)
        self.degenerate.update(test_loss.isnan().float())


class FoolingModule(LightningModule):
    """Minimises `preserve(D) + fool_weight * mean(penalty(heatmaps))` (Heo et al. 2019, eq. 2).

    The network stays in eval mode (batch norm and dropout frozen); the original network is frozen, follows to the same
    device and stays out of checkpoints. The choice of checkpoints maximises `val/score` on the selection images: FSR
    less `drop_weight` times the accuracy lost.

    A fooling of composites is trained on batches `{"images": ..., "composites": ...}`, and validated on the loaders of
    both in turn; all others take plain batches, on which the classification is preserved as well.

    Args:
        setup: the original network, the interpreters and the fooling. Several interpreters can be trained with at
            once: one forward pass of each network serves all, and their penalties and, in `val/score`, their FSR are
            averaged.
        training: how the network is fine-tuned.
        network: what is fine-tuned; its parameters change.

    Raises:
        AdvfoolError: settings contradict each other.
    """

    def __init__(self, setup: Setup, training: Training, network: nn.Module) -> None:
        super().__init__()
        training.check(setup)
        self.network = network.eval()
        self.original: nn.Module
        object.__setattr__(self, "original", setup.original.eval().requires_grad_(False))
        self.settings, self.target = training, setup.settings.target
        self.attacked, self.trained = setup.attacked, [each.for_training() for each in setup.attacked]
        self.interpreter = setup.trained
        self.watched = list(setup.interpreters.values())  # measured by callbacks
        self.fooling, self.preserve = setup.fooling, training.preserve
        self.composites = isinstance(setup.fooling, CompositeFooling)
        self.cached_original: Mapping[str, CachedOriginal] = {}  # for images that never change, by split
        if training.trainable is not None:
            self.network.requires_grad_(False)
            for layer in training.trainable:
                module_at(self.network, layer).requires_grad_(True)
        self.free = FreeDirection(network, training.free_layer) if training.free_layer else None
        self.held = HeldMean(network, training.held_layer) if training.held_layer else None
        self.multiplier = self.first_multiplier() if training.fool_weight == "auto" else None
        self.original_top1: float | None = None
        self.generators: list[dict[str, Any]] | None = None  # their states when the run was interrupted, by process
        self.val_top1 = MulticlassAccuracy(len(setup.data.classes), average="micro")
        self.val_maps = nn.ModuleList(MapRates(setup.fooling.interval) for _ in self.attacked)
        self.val_agreement = MeanMetric()

    def _apply(self, function: Callable, *args, **kwargs):
        """Move the original network along with the module (it is no submodule, so that checkpoints leave it out)."""
        self.original._apply(function)
        return super()._apply(function, *args, **kwargs)

    def train(self, mode: bool = True) -> "FoolingModule":
        """Set the mode of the module; batch norm and dropout of the network stay frozen."""
        super().train(mode)
        self.network.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Store the random generators' states, so that a resumed training draws what an uninterrupted one would."""
        checkpoint["generators"] = of_all_processes(generator_states(self.device))
        if self.multiplier is not None:
            checkpoint["fool_weight"] = self.multiplier.weight
            checkpoint["fooled"] = self.multiplier.fooled

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.generators = checkpoint.get("generators")
        if self.multiplier is not None:
            self.multiplier.weight = float(checkpoint.get("fool_weight", self.multiplier.weight))
            self.multiplier.fooled = bool(checkpoint.get("fooled", False))

    def on_train_start(self) -> None:
        if self.generators is not None:
            restore_generators(self.device, of_this_process(self.generators, self.global_rank))

    def training_step(self, batch: Sample | dict[str, Sample], batch_idx: int) -> Float[Tensor, ""]:
        images, composites = (batch["images"], batch["composites"]) if isinstance(batch, dict) else (batch, None)
        if self.settings.mix:
            images = images._replace(image=mix_images(images.image, self.settings.mix))
        explained = images if composites is None else composites
        recording = record(self.network, explained.image, self.trained)
        logits = recording.logits if composites is None else self.network(images.image)

        top, wants_maps, wants_logits = self.settings.train_target_top, self.fooling.needs_original, False
        if composites is None:
            wants_logits = bool(top) or self.preserve.needs_original
        original = self._original(explained, "train", wants_maps, wants_logits)
        targets = self.targets(explained, original.logits if original else None)
        if top and original:
            targets = draw_from_top(original.logits, top, self.settings.train_target_first)
        penalties = []
        for place, interpreter in enumerate(self.trained):
            heatmaps = read_maps(interpreter, recording, targets)
            penalties.append(self.fooling.penalty(heatmaps, self._compared(original, targets, place)).mean())
        if composites is not None:
            original = self._original(images, "images", False, self.preserve.needs_original)

        preserve = self.preserve(logits, images.label, original.logits if original else None)
        penalty = torch.stack(penalties).mean()
        loss = preserve + self.weight * penalty
        values = {"train/loss": loss, "train/preserve": preserve, "train/penalty": penalty}
        self.log_dict({name: value.detach() for name, value in values.items()})
        if not self._everywhere(torch.isfinite(loss.detach())):
            raise Diverged(
                f"Training diverged: the loss is {loss.item()} at step {self.global_step} (preserve {preserve.item()}, "
                f"penalty {penalty.item()}). Lower optimizer.lr or fool_weight."
            )
        return loss

    def first_multiplier(self) -> Multiplier:
        """Make the weight that follows the price, as it is at the start."""
        return Multiplier(self.settings.budget, self.settings.first_weight)

    @property
    def weight(self) -> float:
        """The weight of the fooling penalty."""
        fixed = self.settings.fool_weight
        return self.multiplier.weight if self.multiplier is not None else float(fixed)

    def validation_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        explained = self.composites == (dataloader_idx == 1)
        recording = record(self.network, batch.image, self.attacked if explained else [])
        if dataloader_idx == 0:
            self.val_top1.update(recording.logits.detach(), batch.label)
            if self.multiplier is not None:
                known = self._original(batch, "ordinary selection" if self.composites else "selection", False, True)
                assert known is not None
                self.val_agreement.update(prediction_agreement(known.logits, recording.logits.detach()).float())
        if explained:
            original = self._original(batch, "selection", self.fooling.needs_original, False)
            targets = self.targets(batch, original.logits if original else None)
            for place, rates in enumerate(self.val_maps):
                heatmaps = read_maps(self.attacked[place], recording, targets)
                rates(self.fooling.test_loss(heatmaps, self._compared(original, targets, place)))

    def on_validation_epoch_end(self) -> None:
        metrics: dict[str, Metric] = {"val/top1": self.val_top1}
        for interpreter, rates in zip(self.attacked, self.val_maps, strict=True):
            metrics |= {f"val/{kind}/{interpreter.name}": metric for kind, metric in rates.named_children()}  # pyright: ignore[reportAssignmentType]
        values = {key: metric.compute() for key, metric in metrics.items()}
        for metric in metrics.values():
            metric.reset()
        if self.original_top1 is None:  # the first validation is before the first step
            self.original_top1 = values["val/top1"].item()
        lost = max(self.original_top1 - values["val/top1"].item(), 0.0)
        fsr = torch.stack([values[f"val/fsr/{each.name}"] for each in self.attacked]).mean()
        values["val/score"] = fsr - self.settings.drop_weight * lost
        if self.multiplier is not None:
            values["val/agreement"] = self.val_agreement.compute()
            self.val_agreement.reset()
            drop = self.original_top1 - values["val/top1"].item()
            price = self.multiplier.budget.price(drop, 1 - values["val/agreement"].item())
            values["val/price"] = torch.tensor(price)
            # The best one is the most fooled within the budget; beyond it, the cheapest.
            values["val/score"] = fsr if within(price, 1) else torch.tensor(-price)
            if self.trainer.state.fn == TrainerFn.FITTING:
                progress = self.global_step / max(1, self.trainer.max_steps)
                self.multiplier.follow(price, progress, fsr.item())
            values["val/fool_weight"] = torch.tensor(self.multiplier.weight)
        for key, value in values.items():
            self.log(key, value, prog_bar=key == "val/top1" or key.startswith("val/fsr"))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.settings.optimizer([p for p in self.network.parameters() if p.requires_grad])
        if self.free:
            self.free.hasten(optimizer)
        if self.held:
            self.held.follow(optimizer)
        if self.settings.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.settings.scheduler(optimizer), "interval": "step"},
        }

    @torch.no_grad()
    def _original(self, batch: Sample, split: str, maps: bool, logits: bool) -> OriginalAnswers | None:
        """Ask the original network, if anything needs its answer: from the cache, or from one pass."""
        predicted = self.target == "predicted" and batch.label.dim() == 1 and split != "images"
        if not (maps or logits or predicted):
            return None
        if split in self.cached_original:
            return self.cached_original[split].look_up(batch.index)
        recording = record(self.original, batch.image, self.attacked if maps else [])

        @torch.no_grad()
        def read(targets: Tensor, place: int = 0) -> Tensor:
            return read_maps(self.attacked[place], recording, targets)

        return OriginalAnswers(recording.logits, read)

    def _compared(self, original: OriginalAnswers | None, targets: Int[Tensor, "n *two"], place: int) -> Tensor | None:
        """Read the original heatmaps that the fooling compares with, where it does."""
        if original is None or not self.fooling.needs_original:
            return None
        return original.maps(self.fooling.compared_classes(targets, original.logits), place)

    def targets(self, batch: Sample, logits: Float[Tensor, "n c"] | None) -> Int[Tensor, "n *two"]:
        """Choose the explained class of each image, or both of a composite; the logits are the original network's."""
        return explained_classes(batch.label, self.target, logits)

    def _everywhere(self, holds: Tensor) -> bool:
        """Tell whether it holds in all processes, so that all of them stop together."""
        return self.trainer.strategy.reduce_boolean_decision(bool(holds), all=True) if self._trainer else bool(holds)


def draw_from_top(logits: Float[Tensor, "n c"], k: int, first: float = 0.0) -> Int[Tensor, "n"]:
    """Draw one of the top k classes of each image, but for a share of the images the first of them."""
    top = top_classes(logits, k)
    place = torch.randint(top.shape[1], (len(top), 1))
    if first:
        place = torch.where(torch.rand(len(top), 1) < first, 0, place)
    return top.gather(1, place.to(top.device))[:, 0]
