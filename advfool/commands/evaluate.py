"""The command `evaluate`: measures a manipulated network against the original one, from configuration to files."""

from pathlib import Path

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer

from advfool.commands.keys import EvaluateKeys, RunKeys, keys_of
from advfool.commands.objectives import check_objective, headline
from advfool.commands.run_folder import read_run, write_config, write_environment
from advfool.commands.run_settings import check_original, with_settings_of
from advfool.commands.setup import build_setup, settings_from
from advfool.evaluation.console import print_results
from advfool.evaluation.gate import gate_of
from advfool.evaluation.selection import AGAIN, measure_selection
from advfool.evaluation.writing import write_results
from advfool.library.compare import run_comparison
from advfool.utilities.config import build
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import WEIGHTS
from advfool.utilities.runtime import keep_freed_memory, quieten


def evaluate(cfg: DictConfig) -> float:
    """Evaluate a finished run, or two files of weights, and write the folder.

    Args:
        cfg: the configuration.

    Returns:
        the FSR of the first interpreter on the selection images, or its deceptive rate (`objective`): a sweeper chooses
        by it.

    Raises:
        AdvfoolError: the run or the weights do not exist, or do not fit.
    """
    quieten()
    keep_freed_memory()
    folder = Path(HydraConfig.get().runtime.output_dir)
    cfg, manipulated, expected = _what_to_evaluate(cfg)
    check_objective(cfg.objective, cfg.faithfulness.images)
    settings_from(cfg)  # what is out of range is an error before anything is built
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    configured = build_setup(cfg)
    setup = configured.setup
    check_original(cfg.run, expected, setup.original_sha256)
    trainer = measuring_trainer(cfg)
    network = configured.network(manipulated)
    gate = gate_of(setup)
    selection = measure_selection(setup, network, trainer)
    result = run_comparison(setup, network, trainer)
    first = setup.attacked_name
    if trainer.is_global_zero:
        write_config(folder, configured.config)
        write_environment(folder, "advfool.evaluate", cfg.seed, trainer.strategy.root_device.type)
        metrics = result.metrics | {"interp": first, "run": cfg.run, "manipulated": str(manipulated)}
        metrics |= {**gate, "selection": selection, "test_images": AGAIN}
        write_results(folder, setup, result.model, result.results, metrics)
        print_results(metrics, folder)
    return headline(selection, first, cfg.objective)


def measuring_trainer(cfg: DictConfig) -> Trainer:
    """Make a trainer that only measures, on the devices of the configuration."""
    progress = (cfg.get("callbacks") or {}).get("progress")
    return build(
        cfg.trainer,
        callbacks=[build(progress)] if progress else [],
        logger=False,
        enable_checkpointing=False,
        default_root_dir=str(HydraConfig.get().runtime.output_dir),
    )


def _what_to_evaluate(cfg: DictConfig) -> tuple[DictConfig, Path, str | None]:
    """Find the configuration with the run's settings in it, the manipulated weights, and the original's hash."""
    found, expected = cfg, None
    if cfg.run:
        stored, run_metrics = read_run(Path(cfg.run).expanduser())
        expected = run_metrics.get("original_sha256")
        found = with_settings_of(stored, cfg, keys_of(RunKeys))
    elif not cfg.manipulated:
        raise AdvfoolError(
            "evaluate: expected a run's folder (run=runs/...) or weights (manipulated=PATH, with model, data and "
            "fooling as in training), got neither."
        )
    manipulated = Path(cfg.manipulated or Path(cfg.run) / WEIGHTS).expanduser()
    if not manipulated.is_file():
        raise AdvfoolError(f"evaluate: expected manipulated weights '{manipulated}', found no such file.")
    tree = {key: found._get_node(key) for key in keys_of(EvaluateKeys) if key in found}
    result = OmegaConf.create(tree)
    if cfg.original:
        result.model.weights, expected = cfg.original, None
    return result, manipulated, expected
