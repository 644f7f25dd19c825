"""Trains a tiny network for its data: plain, or adversarially from where the plain training ended."""

import logging
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.utilities.seed import isolate_rng
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy

from advfool.data.base import DataModule
from advfool.data.samples import Sample
from advfool.models.base import NetworkSource
from advfool.models.weights import fit_weights, read_weights, write_weights
from advfool.training.adversarial import FreeAdversarialTraining
from advfool.utilities.checking import check_fields
from advfool.utilities.kinds import Count, NonNegative, Positive, Seed, Share
from advfool.utilities.runtime import keep_freed_memory, threads

log = logging.getLogger(__name__)
VERSION = 3  # part of the cache's key: raise it when the training changes
THREADS = 2  # their number decides the last digits of the weights


@dataclass(frozen=True)
class Recipe:
    """How a tiny network is trained: AdamW with a one-cycle schedule; the weights of the last step are kept.

    Args:
        epochs: passes over the training images.
        batch_size: images in a batch.
        lr: the largest learning rate.
        weight_decay: of AdamW.
        label_smoothing: of the cross-entropy, from 0 to 1.
        seed: of the weights at the start and of the order of the images.
        epsilon: while training adversarially, how far a pixel (from 0 to 1) moves; None: plain training.
        replays: while training adversarially, steps on each batch.
    """

    epochs: Count
    batch_size: Count
    lr: Positive
    weight_decay: NonNegative = 0.05
    label_smoothing: Share = 0.05
    seed: Seed = 0
    epsilon: NonNegative | None = None
    replays: Count = 1

    def __post_init__(self) -> None:
        check_fields(self)


def pretrain(
    source: NetworkSource, data: DataModule, recipe: Recipe, path: Path, start: Path | None = None, accelerator="auto"
) -> None:
    """Train a network and write its weights. The random state of the caller is left as it was.

    Args:
        source: makes the untrained network.
        data: the images; its batch size and order are expected to be those of the recipe.
        recipe: how it is trained.
        path: where the weights are written to.
        start: weights to start from; None: untrained ones.
        accelerator: Lightning's word for the device.
    """
    keep_freed_memory()
    with isolate_rng(), threads(THREADS):
        pl.seed_everything(recipe.seed, verbose=False)
        network = source.create(len(data.classes))
        if start:
            fit_weights(network, read_weights(start), str(start))
        callbacks: list[Callback] = [RichProgressBar()]
        if recipe.epsilon is not None:
            callbacks.append(FreeAdversarialTraining(data.input, recipe.epsilon, recipe.replays))
            data.replays = recipe.replays
        loader = data.train_dataloader()
        log.info("Training %s on %d images, once; its weights are cached", source.name, len(data.train()))
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=recipe.epochs,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=callbacks,
        )
        module = Classifier(network, recipe, recipe.epochs * len(loader))
        trainer.fit(module, loader, data.val_dataloader())
        top1 = trainer.validate(module, data.val_dataloader(), verbose=False)[0]["val/top1"]
        log.info("%s: top-1 on the selection images %.2f %%", source.name, 100 * top1)
        write_weights(module.network, path, data.classes)


class Classifier(LightningModule):
    """Supervised training for a number of steps.

    Args:
        network: what is trained.
        recipe: how it is trained.
        steps: of the learning rate schedule.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, steps: int) -> None:
        super().__init__()
        self.network, self.recipe, self.steps = network, recipe, steps

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(self.network(batch.image), batch.label, label_smoothing=smoothing)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        logits = self.network(batch.image)
        top1 = multiclass_accuracy(logits, batch.label, logits.shape[1], average="micro")
        self.log("val/top1", top1, prog_bar=True, batch_size=len(logits))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(self.parameters(), self.recipe.lr, weight_decay=self.recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.recipe.lr, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
