"""Measuring a manipulated network against the original one, from config to files: after training, or by itself."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import Trainer
from torch import nn

from advfool.commands.run_folder import read_run, write_config, write_environment
from advfool.commands.setup import Parts, assemble, check_settings
from advfool.evaluation.comparison import NETWORKS, PAIR, AOPCSettings, Results, Table, compare
from advfool.evaluation.console import print_results
from advfool.evaluation.examples import write_examples
from advfool.evaluation.pictures import aopc_picture, heatmaps_picture
from advfool.evaluation.summary import summarise
from advfool.utilities.config import build
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import write_json
from advfool.utilities.runtime import keep_freed_memory, quieten

OF_THE_RUN = ("model", "data", "fooling", "interp", "target", "seed", "fsr_images", "aopc", "cache")
CONFIG = (*OF_THE_RUN, "run", "original", "manipulated", "evaluate_with", "pictures", "trainer", "callbacks")


def evaluate(cfg: DictConfig) -> float:
    """Evaluates a finished run, or two state dicts, and writes the folder; returns the first interpreter's FSR.

    Raises:
        AdvfoolError: the run or the weights cannot be had, or do not fit.
    """
    quieten()
    keep_freed_memory()
    cfg, manipulated, expected = _what_to_evaluate(cfg)
    check_settings(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    parts = assemble(cfg)
    if expected not in (None, parts.original_sha256):
        raise AdvfoolError(
            f"The original network is not the one that '{cfg.run}' started from: its weights differ. Give them: "
            "original=PATH."
        )
    network = build(cfg.model, weights=str(manipulated)).build(parts.data.classes)
    trainer = evaluator(cfg)
    results, metrics = measure(cfg, parts, network, trainer)
    if trainer.is_global_zero:
        write_config(folder, cfg)
        write_environment(folder, "advfool.evaluate", cfg.seed, trainer.strategy.root_device.type)
        named = {"interp": next(iter(parts.interpreters)), "run": cfg.run, "manipulated": str(manipulated)}
        write_results(folder, cfg, parts, network, results, metrics | named)
    return headline(metrics, next(iter(parts.interpreters)))


def measure(cfg: DictConfig, parts: Parts, manipulated: nn.Module, trainer: Trainer) -> tuple[Results, dict]:
    """The rows of all test images, and what they amount to."""
    results = compare(
        trainer,
        parts.data,
        parts.original,
        manipulated,
        list(parts.interpreters.values()),
        parts.fooling,
        cfg.target,
        cfg.fsr_images,
        cfg.seed,
        parts.composites and parts.composites.test,
        AOPCSettings(**cfg.aopc, seed=cfg.seed),
    )
    pair = (parts.fooling.c1, parts.fooling.c2) if parts.composites else None
    metrics = summarise(results, list(parts.interpreters), parts.fooling, parts.data.classes, pair, cfg.seed)
    metrics |= {
        "target": "label" if pair else cfg.target,
        "model": cfg.model.name,
        "target_layer": cfg.model.target_layer,
        "fooling": cfg.fooling.name,
        "interval": list(parts.fooling.interval),
        "evaluate_with": list(parts.interpreters),
        "seed": cfg.seed,
    }
    if pair:
        metrics["pair"] = {which: parts.data.labels[label] for which, label in zip(PAIR, pair, strict=True)}
    return results, metrics


def evaluator(cfg: DictConfig) -> Trainer:
    """A trainer on the same devices that only measures."""
    progress = (cfg.get("callbacks") or {}).get("progress")
    return build(
        cfg.trainer,
        callbacks=[build(progress)] if progress else [],
        logger=False,
        enable_checkpointing=False,
        default_root_dir=str(HydraConfig.get().runtime.output_dir),
    )


def write_results(
    folder: Path, cfg: DictConfig, parts: Parts, manipulated: nn.Module, results: Results, metrics: dict
) -> None:
    """per_image.parquet, examples, the pictures, the table on the console, and last metrics.json: all is there."""
    networks = dict(zip(NETWORKS, (parts.original.cpu(), manipulated.cpu()), strict=True))
    _write_images(folder / "per_image.parquet", results, parts)
    write_examples(
        folder,
        parts.composites.test if parts.composites else parts.data.test(),
        results.explained,
        networks,
        list(parts.interpreters.values()),
        parts.fooling,
        parts.data.input,
        parts.data.labels,
        cfg.target,
    )
    if cfg.pictures:
        _draw(folder / "heatmaps.png", cfg, parts, networks)
    if results.aopc:
        aopc_picture(folder / "aopc.png", {key: curve.points for key, curve in results.aopc.items()})
        curves = {"/".join(filter(None, key)): curve.points for key, curve in results.aopc.items()}
        write_json(folder / "aopc.json", curves)
    write_json(folder / "metrics.json", metrics)
    print_results(metrics, folder)


def headline(metrics: Mapping, interp: str) -> float:
    """The FSR of an interpreter; of active fooling the mean of both classes."""
    rate = metrics["fsr"][interp]
    return sum(rate.values()) / len(rate) if isinstance(rate, Mapping) else rate


def _what_to_evaluate(cfg: DictConfig) -> tuple[DictConfig, Path, str | None]:
    """The config with the run's settings in it, the manipulated weights, and the hash of the original's."""
    overrides = [override.partition("=")[0].lstrip("+~") for override in HydraConfig.get().overrides.task]
    expected = None
    if cfg.run:
        run_cfg, run_metrics = read_run(Path(cfg.run).expanduser())
        expected = run_metrics.get("original_sha256")
        given = {key: OmegaConf.select(cfg, key) for key in overrides if "." in key}
        with open_dict(cfg):
            for key in OF_THE_RUN:
                if key not in overrides and key in run_cfg:
                    cfg[key] = run_cfg[key]
            for key, value in given.items():
                OmegaConf.update(cfg, key, value)
    elif not cfg.manipulated:
        raise AdvfoolError(
            "evaluate: expected a run's folder (run=runs/...) or weights (manipulated=PATH, with model, data and "
            "fooling as in training), got neither."
        )
    manipulated = Path(cfg.manipulated or Path(cfg.run) / "manipulated.safetensors").expanduser()
    if not manipulated.is_file():
        raise AdvfoolError(f"evaluate: expected manipulated weights '{manipulated}', found no such file.")
    with open_dict(cfg):
        if cfg.original:
            cfg.model.weights, expected = cfg.original, None
    return OmegaConf.masked_copy(cfg, [key for key in CONFIG if key in cfg]), manipulated, expected


def _write_images(path: Path, results: Results, parts: Parts) -> None:
    """One row for each image: its kind, index, file, class, predictions, and each interpreter's values."""
    tables = [_named(results.images, "image", parts)]
    if parts.composites:
        tables = [_named(results.explained, "composite", parts), *tables]
    pq.write_table(pa.concat_tables(tables, promote_options="default"), path)


def _named(table: Table, kind: str, parts: Parts) -> pa.Table:
    index = table["index"].tolist()
    images, classes = parts.data.test(), parts.data.classes
    columns: dict = {"kind": [kind] * len(index), "index": index}
    columns["path"] = pa.array([images.path(i) if kind == "image" else None for i in index], pa.string())
    labels = table["label"].tolist() if "label" in table else [None] * len(index)
    columns["label"] = pa.array(labels, pa.int64())
    columns["class"] = pa.array([None if c is None else classes[c] for c in labels], pa.string())
    return pa.table(columns | {name: c.numpy() for name, c in table.items() if name not in ("index", "label")})


def _draw(path: Path, cfg: DictConfig, parts: Parts, networks: dict[str, nn.Module]) -> None:
    images = parts.composites.test if parts.composites else parts.data.test()
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(cfg.seed))[: cfg.pictures].tolist()
    samples = [images[index] for index in chosen]
    first = next(iter(parts.interpreters.values()))
    heatmaps_picture(path, samples, networks, first, parts.data.input, parts.data.labels, cfg.target)
