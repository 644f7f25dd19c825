"""Fine-tunes a network so that its heatmaps lie: from a setup to a manipulated network."""

import logging
import os
import time
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import nn

from advfool.data.composites import WithComposites
from advfool.evaluation.setup import Setup
from advfool.foolings.base import CompositeFooling, Fooling
from advfool.training.cached_original import ANOTHER, CachedOriginal, Targets, cached_original
from advfool.training.checkpoint_paths import best_checkpoint
from advfool.training.module import FoolingModule
from advfool.training.restoring import restoring, unfit
from advfool.training.settings import Training
from advfool.utilities.errors import AdvfoolError, Diverged
from advfool.utilities.modules import copied

log = logging.getLogger(__name__)


class Finetuned(NamedTuple):
    """What a fine-tuning leaves.

    Args:
        network: the manipulated network, with the chosen weights.
        steps: how many steps were taken.
        seconds: how long the training took.
    """

    network: nn.Module
    steps: int
    seconds: float


def finetune(setup: Setup, training: Training, trainer: Trainer, checkpoint: Path | None = None) -> Finetuned:
    """Fine-tune a copy of the original network.

    Args:
        setup: the original network, data, interpreters and fooling.
        training: how the network is fine-tuned.
        trainer: Lightning's trainer, with its callbacks and loggers.
        checkpoint: resume from this checkpoint; None: start.

    Raises:
        AdvfoolError: settings contradict each other, or there are more processes than images to measure on.
        Diverged: the training destroyed the classifier.
    """
    seed = setup.settings.seed
    module = FoolingModule(setup, training, copied(setup.original))
    _check_processes(setup, trainer)
    module.cached_original = cached_answers(setup, training, trainer)
    pl.seed_everything(seed, workers=True, verbose=False)  # the same whether weights were cached or made
    torch.manual_seed(seed + trainer.global_rank)  # processes blend images and draw classes on their own
    loaders = training_data(setup)
    trainer.validate(module, datamodule=loaders, verbose=False)
    started = time.perf_counter()
    try:
        with restoring(trainer, checkpoint):
            trainer.fit(module, datamodule=loaders, ckpt_path=checkpoint, weights_only=True)
    except Diverged as error:
        best = trainer.checkpoint_callback.best_model_path if trainer.checkpoint_callback else ""  # type: ignore[attr-defined]
        left = f"The best checkpoint so far: {best}." if best else "There is no checkpoint yet."
        raise Diverged(f"{error} {left}") from None
    seconds = time.perf_counter() - started
    if training.select == "best":
        _load_best(trainer, module, checkpoint)
    return Finetuned(module.network, trainer.global_step, seconds)


def training_data(setup: Setup) -> LightningDataModule:
    """Make the data module to train with: the images, together with composites where there are any."""
    if setup.composites is None or not isinstance(setup.fooling, CompositeFooling):
        return setup.data
    return WithComposites(setup.data, setup.composites, setup.fooling.batch_size)


def cached_answers(setup: Setup, training: Training, trainer: Trainer) -> dict[str, CachedOriginal]:
    """Compute ahead what the original network says of images that never change and are seen repeatedly, by split."""
    if not training.cache_original:
        return {}
    _share_out_threads(trainer)
    found = {}
    for split, (images, times, interpreter, classes) in _wanted_answers(setup, training, trainer).items():
        if times * trainer.world_size >= 1 and not images.varies:
            loader, device = setup.data.in_order(images), trainer.strategy.root_device
            found[split] = cached_original(
                training.cache, setup.original, interpreter, images, loader, classes, device, trainer.precision_plugin
            )
    return found


def _wanted_answers(setup: Setup, training: Training, trainer: Trainer) -> dict[str, tuple]:
    """List by split: its images, how often each is seen, whose heatmaps of which classes; where anything is needed."""
    data, composites, fooling = setup.data, setup.composites, setup.fooling
    steps, preserve = trainer.max_steps, training.preserve
    maps = setup.trained if fooling.needs_original else None
    if maps and setup.together > 1:
        return {}  # what is cached is one interpreter's
    predicted = setup.settings.target == "predicted"
    targets = _compared_classes(fooling, training.train_target_top or (1 if predicted else "label"))
    wanted = {}
    if composites and isinstance(fooling, CompositeFooling):
        wanted["train"] = (composites.train, steps * fooling.batch_size / len(composites.train), maps, "label")
        if preserve.needs_original:
            images = data.train()
            wanted["images"] = (images, steps * data.batch_size / len(images), None, "label")
    elif not training.mix and (maps or preserve.needs_original or training.train_target_top or predicted):
        images = data.train()
        wanted["train"] = (images, steps * data.batch_size / len(images), maps, targets)
    if maps or predicted:
        images = composites.selection if composites else data.selection()
        validations = steps / int(trainer.val_check_interval)
        explained = _compared_classes(fooling, 1 if predicted and not composites else "label")
        wanted["selection"] = (images, validations, maps, explained)
    return wanted


def _compared_classes(fooling: Fooling, explained: Targets) -> Targets:
    """Add to the explained classes another one, where the fooling compares with its map: it is among the top two."""
    if not fooling.needs_another_class:
        return explained
    return ANOTHER if isinstance(explained, str) else max(explained, 2)


def _check_processes(setup: Setup, trainer: Trainer) -> None:
    if trainer.world_size == 1:
        return
    parts = (setup.data.selection(), setup.data.test(), *(setup.composites or ()))
    fewest = min(len(part) for part in parts)
    if trainer.world_size > fewest:
        raise AdvfoolError(
            f"{trainer.world_size} processes cannot share {fewest} images to measure on. Use fewer (trainer.devices) "
            "or more images (data.limit_val, data.limit_test)."
        )


def _share_out_threads(trainer: Trainer) -> None:
    """Set the number of threads that Lightning sets when it starts further processes, so that all compute the same.

    Processes that something else starts (Slurm) have their cores already.
    """
    if trainer.world_size > 1 and trainer.strategy.launcher and "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = max(1, cores // trainer.num_devices)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _load_best(trainer: Trainer, module: FoolingModule, resumed: Path | None) -> None:
    """Load the weights of the best validation; keep the last ones where there was no validation."""
    if best := best_checkpoint(trainer, resumed):
        try:
            module.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
        except Exception as error:  # torch raises errors of any kind for what a checkpoint holds
            raise unfit(best, error) from error
