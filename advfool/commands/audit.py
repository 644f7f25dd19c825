"""The command `audit`: from a configuration to a folder with verdicts."""

import logging
import shlex
import shutil
from pathlib import Path

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from advfool.auditing.page import cells, ranking
from advfool.auditing.record import RECORD
from advfool.auditing.suite import AuditSettings
from advfool.commands.run_folder import write_config, write_environment
from advfool.commands.setup import build_setup, settings_from
from advfool.evaluation.measuring import measuring_trainer
from advfool.library.audit import PAGE, PARTS, AuditReport, audit_setup
from advfool.utilities.config import plain
from advfool.utilities.runtime import keep_freed_memory, quieten
from advfool.utilities.text import printable

log = logging.getLogger(__name__)


def audit(cfg: DictConfig, console: Console | None = None) -> Path:
    """Audit the interpreters of a configuration.

    Args:
        cfg: the configuration.
        console: where the verdicts go; None: standard output.

    Returns:
        the folder.

    Raises:
        AdvfoolError: something does not exist or does not fit.
    """
    quieten()
    keep_freed_memory()
    console = console or Console(highlight=False)
    folder = Path(HydraConfig.get().runtime.output_dir)
    settings = audit_settings(cfg)
    settings_from(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    configured = build_setup(_with_interpreters(cfg), any_scale=True)
    write_config(folder, configured.config)
    device = measuring_trainer(settings.accelerator, False).strategy.root_device.type
    write_environment(folder, "advfool.audit", cfg.seed, device)
    hydra = HydraConfig.get()
    data, repeat = hydra.runtime.choices["data"], shlex.join(["python", "-m", "advfool.audit", *hydra.overrides.task])
    if HydraConfig.get().mode == RunMode.RUN:
        log.info("If this is interrupted, the same command with hydra.run.dir=%s goes on.", shlex.quote(str(folder)))
    report = audit_setup(
        configured.setup,
        settings,
        data,
        repeat,
        folder,
        progress=bool(cfg.progress),
        detectors=cfg.detectors,
        defences=plain(cfg.defences),
        seeds=cfg.seeds,
    )
    report.save(folder)
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    console.print(_table(report))
    for text in report.verdicts().values():
        console.print(printable(text), markup=False)
    console.print(f"Open {folder / PAGE}; the numbers are in {folder / RECORD}.", markup=False, soft_wrap=True)
    return folder


def _with_interpreters(cfg: DictConfig) -> DictConfig:
    """Replace the list of interpreters by their settings, as the other commands have them."""
    named = OmegaConf.create({"evaluate_with": plain(cfg.interpreters)})
    open_copy = cfg.copy()
    OmegaConf.set_struct(open_copy, False)
    open_copy.evaluate_with, open_copy.interpreters = named.evaluate_with, "${interpreters:${evaluate_with}}"
    return open_copy


def audit_settings(cfg: DictConfig) -> AuditSettings:
    """Build the settings of an audit; raise an AdvfoolError where a value is out of range."""
    taken = {key: plain(cfg[key]) for key in ("trials", "steps", "selection_images", "enough", "seed")}
    taken |= {"top1": cfg.budget.top1, "batch_size": cfg.data.batch_size, "accelerator": cfg.trainer.accelerator}
    return AuditSettings(attacks=tuple(cfg.attacks), **taken)


def _table(report: AuditReport) -> Table:
    table = Table("interpreter", "verdict", title=f"Audit {report.record['suite']}", title_justify="left")
    for head in ("deceptive rate", "95 %", "FSR (null)", "top-1 drop", "accuracy"):
        table.add_column(head, justify="right")
    for name, found in ranking(report.record):
        table.add_row(*map(printable, cells(name, found)))
    return table
