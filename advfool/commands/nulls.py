"""The command `nulls`: what the success rate would be without an attack, from configuration to files."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from advfool.commands.evaluate import measuring_trainer
from advfool.commands.honest import ALONE, honest_finetune, moved
from advfool.commands.keys import LearningKeys, RunKeys, keys_of
from advfool.commands.pretrained import pretrained_weights
from advfool.commands.run_folder import read_run, write_config, write_environment
from advfool.commands.run_settings import check_original, with_settings_of
from advfool.commands.setup import Configured, build_setup, networks_of_controls, settings_from
from advfool.commands.validation import check_config
from advfool.evaluation.assembly import with_controls
from advfool.evaluation.controls import NEGATIVE, OF_NETWORKS
from advfool.evaluation.selection import AGAIN
from advfool.library.nulls import measure_nulls
from advfool.utilities.config import plain
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import METRICS, read_json, write_json
from advfool.utilities.runtime import keep_freed_memory, quieten
from advfool.utilities.text import printable

log = logging.getLogger(__name__)
# Of the recipe: what a run's folder gives, besides the settings of the images and of the fooling.
RECIPE = ("drop_weight", "cache_original", "callbacks", "trainer")


def nulls(cfg: DictConfig, console: Console | None = None) -> dict:
    """Measure every control of a run, or of what the configuration describes, and write the folder.

    Args:
        cfg: the configuration.
        console: where to print; None: standard output.

    Returns:
        the contents of metrics.json.

    Raises:
        AdvfoolError: the run, the network, the data or the interpreter does not exist or does not fit.
        Diverged: the honest fine-tune destroyed the classifier.
    """
    quieten()
    keep_freed_memory()
    folder = Path(HydraConfig.get().runtime.output_dir)
    cfg, expected = _what_to_measure(cfg, folder)
    settings_from(cfg)  # what is out of range is an error before anything is built
    configured = build_setup(_without_networks(cfg))
    check_original(cfg.run, expected, configured.setup.original_sha256)
    weights, left_out = _weights(cfg, configured)
    setup = with_controls(configured.setup, networks_of_controls(configured, weights))
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    trainer = measuring_trainer(cfg)
    found = measure_nulls(setup, trainer)
    metrics = found | {"interp": setup.trained.name, "run": cfg.run, "original_sha256": setup.original_sha256}
    metrics |= {
        "test_images": AGAIN,
        "weights": {name: str(path) for name, path in weights.items()},
        "left_out": left_out,
    }
    write_config(folder, _readable(configured.config))
    write_environment(folder, "advfool.nulls", cfg.seed, trainer.strategy.root_device.type)
    write_json(folder / METRICS, metrics)
    print_nulls(metrics, console)
    return metrics


def result(folder: Path) -> dict:
    """Read what the command returned.

    Raises:
        AdvfoolError: the file is damaged.
    """
    metrics = read_json(folder / METRICS)
    if metrics is None or "nulls" not in metrics:
        raise AdvfoolError(f"'{folder / METRICS}' is damaged.")
    return metrics


def print_nulls(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a table of the controls, and which one is the null.

    Args:
        metrics: the contents of metrics.json.
        console: where to print; None: standard output.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    title = f"{metrics['model']}: what {metrics['fooling']} counts as fooled without an attack"
    table = Table("interpreter", "control", "kind", title=printable(title), title_justify="left")
    for head in ("FSR", "deceptive rate", "n"):
        table.add_column(head, justify="right")
    for interp, which, control in _rows(metrics["nulls"]):
        rates = [_percent(_at(metrics, "nulls", interp, control, key, which)) for key in ("fsr", "deceptive_rate")]
        cells = [control, "negative" if control in NEGATIVE else "positive", *rates]
        n = _at(metrics, "n_deceptive_nulls", interp, which)
        table.add_row(printable(f"{interp} {which or ''}".strip()), *cells, str(n))
    console.print(table)
    console.print(
        f"FSR on {metrics['n_images_fsr']} images; deceptive rate on the n of {metrics['n_images_nulls']} that have an "
        "honest explanation to lose. Negative controls still tell what the original map told, positive ones mislead.",
        markup=False,
    )
    for interp, which in dict.fromkeys((interp, which) for interp, which, _ in _rows(metrics["nulls"])):
        if interp in metrics["fsr_null"]:
            null, name = (_at(metrics, key, interp, which) for key in ("fsr_null", "fsr_null_control"))
            of = printable(f"{interp} {which or ''}".strip())
            console.print(f"The null of {of} is {name}: an FSR of {_percent(null)} needs no attack.", markup=False)
    for name, reason in metrics["left_out"].items():
        console.print(f"{name} is left out: {reason}", markup=False)


def _what_to_measure(cfg: DictConfig, folder: Path) -> tuple[DictConfig, str | None]:
    """Put the settings of a run into the configuration; return them with the hash of the original network."""
    expected = None
    if cfg.run:
        stored, metrics = read_run(Path(cfg.run).expanduser())
        expected = metrics.get("original_sha256")
        trainer = stored.get("trainer")
        before = Path(str(trainer.get("default_root_dir", folder) if isinstance(trainer, dict) else folder))
        stored |= {node: moved(stored.get(node), before, folder) for node in ("callbacks", "trainer")}
        keys = dict.fromkeys([*keys_of(RunKeys), *keys_of(LearningKeys), *RECIPE, *_measured_with()])
        cfg = with_settings_of(stored, cfg, [key for key in keys if key != "nulls"])
        check_config(cfg, "nulls")
    cfg = cfg.copy()
    OmegaConf.set_struct(cfg, False)
    cfg.trainer = OmegaConf.merge(cfg.trainer, ALONE)
    if cfg.original:
        cfg.model.weights, expected = cfg.original, None
    return cfg, expected


def _measured_with() -> tuple[str, ...]:
    """Name the keys of a run's interpreters, where the command line gives no others."""
    given = (override.lstrip("+~").startswith("evaluate_with") for override in HydraConfig.get().overrides.task)
    return () if any(given) else ("evaluate_with", "interpreters")


def _without_networks(cfg: DictConfig) -> DictConfig:
    """Copy the configuration without the controls that need a network, which is found afterwards."""
    copied = cfg.copy()
    copied.nulls.controls = [name for name in cfg.nulls.controls if name not in OF_NETWORKS]
    for name in OF_NETWORKS:
        copied.nulls[name] = None
    return copied


def _weights(cfg: DictConfig, configured: Configured) -> tuple[dict[str, Path], dict[str, str]]:
    """Find or train the networks that controls need; say why one is left out."""
    found: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for name in OF_NETWORKS:
        if given := cfg.nulls[name]:
            found[name] = Path(given).expanduser()
        elif name not in cfg.nulls.controls:
            continue
        elif name == "honest_finetune":
            found[name] = honest_finetune(configured)
        elif "pretrain" in cfg.model:
            found[name] = pretrained_weights(with_another_seed(cfg))
        else:
            left_out[name] = (
                f"{printable(configured.setup.model)} is not pretrained here. Give weights of the same network that "
                "were trained with another seed: nulls.independent=PATH."
            )
    return found, left_out


def with_another_seed(cfg: DictConfig) -> DictConfig:
    """Copy the configuration of a tiny network with another seed of its pretraining: 0, or 1 in place of 0."""
    copied = cfg.copy()
    copied.model.pretrain.seed = 0 if cfg.model.pretrain.get("seed", 0) else 1
    return copied


def _readable(config: DictConfig) -> DictConfig:
    """Put the recipe under a key of its own: a folder with `optimizer` at the top would be taken for a training."""
    recipe = [key for key in (*keys_of(LearningKeys), *RECIPE) if key in config]
    rest = {str(key): plain(config[key]) for key in config if key not in (*recipe, "steps_of", "table4")}
    learning = {key: plain(config[key]) for key in recipe if key not in ("steps_of", "table4")}
    return OmegaConf.create(rest | {"recipe": learning})


def _rows(nulls: Mapping[str, Mapping]) -> Iterator[tuple[str, str | None, str]]:
    """Yield interpreter, class (of an active fooling) and control of each row."""
    for interp, controls in nulls.items():
        rate = next(iter(controls.values()))["fsr"]
        for which in rate if isinstance(rate, Mapping) else (None,):
            for control in controls:
                yield interp, which, control


def _at(tree: Mapping, *path: str | None) -> Any:
    found: Any = tree
    for key in path:
        found = found if key is None else found[key]
    return found


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"
