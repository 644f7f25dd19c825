"""The command `train`: a fine-tuning run from its configuration to its files."""

import logging
import shutil
from pathlib import Path

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from rich.console import Console
from torch import nn

from advfool.commands.evaluate import measuring_trainer
from advfool.commands.resuming import check_network, find_interrupted, machine_of, put_last, settings_as_json
from advfool.commands.run_folder import write_config, write_environment
from advfool.commands.setup import build_setup, settings_from, training_from
from advfool.evaluation.console import print_results
from advfool.evaluation.writing import write_results
from advfool.library.fool import run_fooling
from advfool.models.weights import write_weights
from advfool.training.checkpoints import Origin, WholeFiles
from advfool.training.history import read_history, set_history_aside
from advfool.training.loggers import dashboards, wandb_ended
from advfool.training.loggers.base import ReportWriter
from advfool.training.pictures import training_picture
from advfool.utilities.config import build, plain
from advfool.utilities.files import CHECKPOINTS, WEIGHTS
from advfool.utilities.runtime import keep_freed_memory, quieten

log = logging.getLogger(__name__)


@wandb_ended()
def train(cfg: DictConfig, write_report: ReportWriter | None = None, console: Console | None = None) -> dict:
    """Fine-tune, evaluate and write the run's folder.

    Args:
        cfg: the configuration.
        write_report: writes the page that dashboards show; None: they show none.
        console: where the results are printed; None: standard output.

    Returns:
        the contents of metrics.json.

    Raises:
        AdvfoolError: the configuration asks for something that does not exist or does not fit.
        Diverged: the training destroyed the classifier.
    """
    quieten()
    keep_freed_memory()
    folder = Path(HydraConfig.get().runtime.output_dir)
    settings = settings_as_json(cfg)
    interrupted = find_interrupted(cfg.resume, settings) if cfg.resume else None
    settings_from(cfg)  # what is out of range is an error before anything is built
    training = training_from(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    configured = build_setup(cfg)
    setup, config = configured.setup, configured.config
    training.check(setup)
    trainer = _trainer(config)
    machine = machine_of(trainer, setup.data.workers)
    trainer.callbacks.append(Origin(settings, machine))  # type: ignore[attr-defined]
    checkpoint = None
    if interrupted:
        check_network(interrupted, setup.original, machine)
        checkpoint = put_last(interrupted.path, folder) if trainer.is_global_zero else interrupted.path
    if trainer.is_global_zero:
        if checkpoint:
            set_history_aside(folder, Path(cfg.resume).expanduser())
        else:
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        write_config(folder, config)
        write_environment(folder, "advfool.train", config.seed, trainer.strategy.root_device.type)
        names, images = (setup.attacked_name, setup.fooling.name, setup.model), len(setup.data.train())
        log.info("Fooling %s with %s on %s (%d images)", *names, images)

    def measuring() -> Trainer:
        return measuring_trainer(config)

    def finished(network: nn.Module) -> None:
        if trainer.is_global_zero:
            write_weights(network, folder / WEIGHTS, setup.data.classes)
            training_picture(folder / "training.png", read_history(folder))

    result = run_fooling(setup, training, trainer, measuring, checkpoint, finished)
    if trainer.is_global_zero:
        write_results(folder, setup, result.model, result.results, result.metrics)
        print_results(result.metrics, folder, console)
        for dashboard in dashboards(trainer.loggers):
            dashboard.show_results(folder, result.metrics, trainer.global_step, write_report)
    return result.metrics


def _trainer(cfg: DictConfig) -> Trainer:
    callbacks = [build(callback) for callback in (cfg.callbacks or {}).values() if callback]
    loggers = [build(logger) for logger in (cfg.logger or {}).values() if logger]
    for dashboard in dashboards(loggers):
        dashboard.show_config(plain(cfg))
    plugins = [WholeFiles(), *(build(plugin) for plugin in cfg.trainer.get("plugins") or ())]
    return build(cfg.trainer, callbacks=callbacks, logger=loggers, plugins=plugins)
