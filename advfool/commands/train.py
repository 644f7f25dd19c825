"""A fine-tuning run from config to results."""

import copy
import logging
import os
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule, Trainer

from advfool.commands.evaluate import evaluator, measure, write_results
from advfool.commands.run_folder import check_resumable, checkpoint_to_resume, write_config, write_environment
from advfool.commands.setup import Parts, assemble, check_settings
from advfool.data.composites import WithComposites
from advfool.models.weights import write_weights
from advfool.training.cached_original import CachedOriginal, cached_original
from advfool.training.history import keep_history, read_history
from advfool.training.loggers import dashboards, wandb_ended
from advfool.training.module import FoolingModule
from advfool.training.pictures import training_picture
from advfool.utilities.config import build
from advfool.utilities.errors import AdvfoolError, Diverged
from advfool.utilities.runtime import keep_freed_memory, quieten

log = logging.getLogger(__name__)


@wandb_ended()
def train(cfg: DictConfig) -> dict:
    """Fine-tunes, evaluates and writes the run folder; returns what is in its metrics.json.

    Raises:
        AdvfoolError: the config asks for something that does not exist or does not fit.
        Diverged: the training destroyed the classifier.
    """
    quieten()
    keep_freed_memory()
    check_settings(cfg)
    if cfg.select not in ("best", "last"):
        raise AdvfoolError(f"select must be 'best' or 'last', got {cfg.select!r}.")
    folder = Path(HydraConfig.get().runtime.output_dir)
    checkpoint = checkpoint_to_resume(cfg.resume) if cfg.resume else None
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    parts = assemble(cfg)
    trainer = _trainer(cfg)
    module = _module(cfg, parts)
    if checkpoint:
        check_resumable(checkpoint, module, cfg.trainer.max_steps)
    if trainer.is_global_zero:
        if checkpoint:
            keep_history(folder)
        write_config(folder, cfg)
        write_environment(folder, "advfool.train", cfg.seed, trainer.strategy.root_device.type)
        names, images = (cfg.interp.name, cfg.fooling.name, cfg.model.name), len(parts.data.train())
        log.info("Fooling %s with %s on %s (%d images)", *names, images)

    fewest = min(len(part) for part in (parts.data.selection(), parts.data.test(), *(parts.composites or ())))
    if trainer.world_size > fewest:
        raise AdvfoolError(
            f"{trainer.world_size} processes cannot share {fewest} images to measure on. Use fewer (trainer.devices) "
            "or more images (data.limit_val, data.limit_test)."
        )
    module.cached_original = _cached_original(cfg, parts, trainer)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)  # the same whether weights were cached or made
    torch.manual_seed(cfg.seed + trainer.global_rank)  # processes blend images and draw classes on their own
    loaders = _loaders(parts)
    trainer.validate(module, datamodule=loaders, verbose=False)
    started = time.perf_counter()
    try:
        trainer.fit(module, datamodule=loaders, ckpt_path=checkpoint, weights_only=True)
    except Diverged as error:
        kept = folder / "checkpoints" / "best.ckpt"
        raise Diverged(
            f"{error} " + (f"The best checkpoint so far: {kept}." if kept.exists() else "There is no checkpoint yet.")
        ) from None
    seconds = time.perf_counter() - started
    if cfg.select == "best":
        _load_best(trainer, module)
    return _finish(cfg, folder, parts, module, trainer, seconds)


def _module(cfg: DictConfig, parts: Parts) -> FoolingModule:
    return FoolingModule(
        network=copy.deepcopy(parts.original),
        original=parts.original,
        interpreter=parts.trained,
        fooling=parts.fooling,
        optimizer=build(cfg.optimizer),
        scheduler=build(cfg.scheduler) if cfg.scheduler else None,
        preserve=build(cfg.preserve),
        fool_weight=cfg.fool_weight,
        target=cfg.target,
        train_target_top=cfg.train_target_top,
        mix=cfg.mix,
        trainable=cfg.trainable,
        drop_weight=cfg.drop_weight,
        num_classes=len(parts.data.classes),
        watched=list(parts.interpreters.values()),
    )


def _loaders(parts: Parts) -> LightningDataModule:
    return WithComposites(parts.data, parts.composites, parts.fooling.batch_size) if parts.composites else parts.data


def _cached_original(cfg: DictConfig, parts: Parts, trainer: Trainer) -> dict[str, CachedOriginal]:
    """What the original network says, computed ahead for the images that never change and are looked at repeatedly."""
    if not cfg.cache_original:
        return {}
    steps, device, precision = cfg.trainer.max_steps, trainer.strategy.root_device, trainer.precision_plugin
    _share_out_threads(trainer)
    preserve, composites = build(cfg.preserve), parts.composites
    maps = parts.trained if parts.fooling.needs_original else None
    predicted = cfg.target == "predicted"
    wanted = {}  # split: (images, looks at each, interpreter, classes), where anything is needed
    targets = cfg.train_target_top or (1 if predicted else "label")
    if composites:
        wanted["train"] = (composites.train, steps * parts.fooling.batch_size / len(composites.train), maps, "label")
        if preserve.needs_original:
            images = parts.data.train()
            wanted["images"] = (images, steps * cfg.data.batch_size / len(images), None, "label")
    elif not cfg.mix and (maps or preserve.needs_original or cfg.train_target_top or predicted):
        images = parts.data.train()
        wanted["train"] = (images, steps * cfg.data.batch_size / len(images), maps, targets)
    if maps or predicted:
        images = composites.selection if composites else parts.data.selection()
        looks = steps / cfg.trainer.val_check_interval
        wanted["selection"] = (images, looks, maps, 1 if predicted and not composites else "label")
    folder = Path(cfg.cache).expanduser()
    return {
        split: cached_original(
            folder, parts.original, interpreter, images, parts.data.in_order(images), classes, device, precision
        )
        for split, (images, looks, interpreter, classes) in wanted.items()
        if looks * trainer.world_size >= 1 and not images.varies
    }


def _share_out_threads(trainer: Trainer) -> None:
    """What Lightning does as it starts further processes: done now, so that this one computes what they would.

    Processes that something else starts (Slurm) have their cores already.
    """
    if trainer.world_size > 1 and trainer.strategy.launcher and "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = max(1, cores // trainer.num_devices)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _trainer(cfg: DictConfig) -> Trainer:
    callbacks = [build(callback) for callback in (cfg.callbacks or {}).values() if callback]
    loggers = [build(logger) for logger in (cfg.logger or {}).values() if logger]
    for dashboard in dashboards(loggers):
        dashboard.show_config(OmegaConf.to_container(cfg, resolve=True))
    return build(cfg.trainer, callbacks=callbacks, logger=loggers)


def _load_best(trainer: Trainer, module: FoolingModule) -> None:
    """The weights of the best look at the selection images; the last ones where there was no look."""
    best = trainer.checkpoint_callback.best_model_path if trainer.checkpoint_callback else ""
    if best:
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)


def _finish(
    cfg: DictConfig, folder: Path, parts: Parts, module: FoolingModule, trainer: Trainer, seconds: float
) -> dict:
    measuring = evaluator(cfg)
    if measuring.is_global_zero:
        write_weights(module.network, folder / "manipulated.safetensors", parts.data.classes)
        training_picture(folder / "training.png", read_history(folder))
    results, metrics = measure(cfg, parts, module.network, measuring)
    metrics |= {
        "interp": cfg.interp.name,
        "preserve": cfg.preserve.name,
        "fool_weight": cfg.fool_weight,
        "original_sha256": parts.original_sha256,
        "train_seconds": round(seconds, 2),
        "steps": trainer.global_step,
    }
    if measuring.is_global_zero:
        write_results(folder, cfg, parts, module.network, results, metrics)
        for dashboard in dashboards(trainer.loggers):
            dashboard.show_results(folder, metrics, trainer.global_step)
    return metrics
