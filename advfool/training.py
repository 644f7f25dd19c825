"""A fine-tuning run from config to results."""

import copy
import logging
import time
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning import Trainer

from advfool.assembly import Parts, assemble
from advfool.building import build
from advfool.errors import AdvfoolError, Diverged
from advfool.evaluation import NETWORKS, compare, summarise
from advfool.memory import keep_freed_memory
from advfool.models.weights import write_weights
from advfool.module import FoolingModule
from advfool.pictures import heatmaps_picture, training_picture
from advfool.run_folder import (
    check_resumable,
    checkpoint_to_resume,
    read_history,
    write_config,
    write_environment,
    write_json,
)
from advfool.table import print_results

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float:
    """Fine-tunes, evaluates and writes the run folder; returns the FSR of the trained interpreter.

    Raises:
        AdvfoolError: the config asks for something that does not exist or does not fit.
        Diverged: the training destroyed the classifier.
    """
    _quieten()
    keep_freed_memory()
    _check(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    checkpoint = checkpoint_to_resume(cfg.resume) if cfg.resume else None
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    parts = assemble(cfg)
    module = _module(cfg, parts)
    if checkpoint:
        check_resumable(checkpoint, module, cfg.trainer.max_steps)
    trainer = _trainer(cfg)
    if trainer.is_global_zero:
        write_config(folder, cfg)
        write_environment(folder, cfg.seed, trainer.strategy.root_device.type)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)  # the same whether weights were cached or made

    log.info(
        "Fooling %s with %s on %s (%d images)",
        cfg.interp.name,
        cfg.fooling.name,
        cfg.model.name,
        len(parts.data.train()),
    )
    trainer.validate(module, parts.data.val_dataloader(), verbose=False)
    started = time.perf_counter()
    try:
        trainer.fit(
            module, parts.data.train_dataloader(), parts.data.val_dataloader(), ckpt_path=checkpoint, weights_only=True
        )
    except Diverged as error:
        kept = folder / "checkpoints" / "best.ckpt"
        raise Diverged(
            f"{error} " + (f"The best checkpoint so far: {kept}." if kept.exists() else "There is no checkpoint yet.")
        ) from None
    seconds = time.perf_counter() - started
    if cfg.select == "best":
        _load_best(trainer, module)
    return _finish(cfg, folder, parts, module, trainer, seconds)


def _check(cfg: DictConfig) -> None:
    """What no constructor sees, before anything is loaded."""
    if cfg.select not in ("best", "last"):
        raise AdvfoolError(f"select must be 'best' or 'last', got {cfg.select!r}.")
    if not isinstance(cfg.seed, int) or not 0 <= cfg.seed < 2**32:
        raise AdvfoolError(f"seed must be an integer from 0 to 2^32 - 1, got {cfg.seed!r}.")
    if cfg.fsr_images is not None and cfg.fsr_images < 1:
        raise AdvfoolError(f"fsr_images must be at least 1, or null for all test images, got {cfg.fsr_images}.")


def _module(cfg: DictConfig, parts: Parts) -> FoolingModule:
    return FoolingModule(
        network=copy.deepcopy(parts.original),
        reference=parts.original,
        interpreter=parts.interpreter,
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
    )


def _trainer(cfg: DictConfig) -> Trainer:
    callbacks = [build(callback) for callback in (cfg.callbacks or {}).values() if callback]
    loggers = [build(logger) for logger in (cfg.logger or {}).values() if logger]
    return build(cfg.trainer, callbacks=callbacks, logger=loggers)


def _load_best(trainer: Trainer, module: FoolingModule) -> None:
    """The weights of the best look at the selection images; the last ones where there was no look."""
    best = trainer.checkpoint_callback.best_model_path if trainer.checkpoint_callback else ""
    if best:
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)


def _finish(
    cfg: DictConfig, folder: Path, parts: Parts, module: FoolingModule, trainer: Trainer, seconds: float
) -> float:
    steps = trainer.global_step
    interpreters = [parts.interpreter]
    names = [interp.name for interp in interpreters]
    evaluator = _evaluator(cfg)
    table = compare(
        evaluator,
        parts.data,
        module.reference,
        module.network,
        interpreters,
        parts.fooling,
        cfg.target,
        cfg.fsr_images,
        cfg.seed,
    )
    metrics = summarise(table, names, parts.fooling, parts.data.classes)
    metrics |= {
        "target": cfg.target,
        "model": cfg.model.name,
        "target_layer": getattr(parts.interpreter, "layer", None),
        "fooling": cfg.fooling.name,
        "interp": cfg.interp.name,
        "preserve": cfg.preserve.name,
        "fool_weight": cfg.fool_weight,
        "seed": cfg.seed,
        "train_seconds": round(seconds, 2),
        "steps": steps,
    }
    if evaluator.is_global_zero:
        networks = dict(zip(NETWORKS, (module.reference.cpu(), module.network.cpu()), strict=True))
        write_weights(networks["manipulated"], folder / "manipulated.safetensors", parts.data.classes)
        _draw(cfg, folder, parts, networks)
        write_json(folder / "metrics.json", metrics)  # last: its presence says that the run is complete
        print_results(metrics, folder)
    return metrics["fsr"][cfg.interp.name]


def _evaluator(cfg: DictConfig) -> Trainer:
    progress = (cfg.callbacks or {}).get("progress")
    return build(cfg.trainer, callbacks=[build(progress)] if progress else [], logger=False)


def _draw(cfg: DictConfig, folder: Path, parts: Parts, networks: dict[str, torch.nn.Module]) -> None:
    training_picture(folder / "training.png", read_history(folder))
    if cfg.pictures < 1:
        return
    images = parts.data.test()
    generator = torch.Generator().manual_seed(cfg.seed)
    chosen = torch.randperm(len(images), generator=generator)[: cfg.pictures].tolist()
    heatmaps_picture(
        folder / "heatmaps.png",
        [images[index] for index in chosen],
        networks,
        parts.interpreter,
        parts.data.input,
        parts.data.labels,
        cfg.target,
    )


def _quieten() -> None:
    """Lightning's advice about workers, hardware and frozen modules is not for users of this command."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for advice in (
        ".*does not have many workers.*",
        ".*log_every_n_steps.*",
        ".*LeafSpec.*",
        ".*in eval mode at the start of training.*",
        "Experiment logs directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message=advice)
