"""The command `pairs`: finds classes for active fooling, from configuration to file."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from advfool.commands.setup import build_explained
from advfool.data.composites import class_indices
from advfool.evaluation.pairs import PairOfClasses, measure_pairs, record_of
from advfool.utilities.config import plain
from advfool.utilities.files import write_json
from advfool.utilities.runtime import quieten
from advfool.utilities.text import printable

SHOWN = 10  # pairs on the console


def find_pairs(cfg: DictConfig, console: Console | None = None) -> Path:
    """Measure pairs of classes on training images, print the best and write all of them to a file.

    Args:
        cfg: the configuration.
        console: where to print; None: standard output.

    Returns:
        the file.

    Raises:
        AdvfoolError: a class, the network or the interpreter does not exist or does not fit.
    """
    quieten()
    console = console or Console(highlight=False, soft_wrap=True)
    data, network, interpreter = build_explained(cfg)
    chosen = None if cfg.classes is None else class_indices(data, plain(cfg.classes))
    pairs = measure_pairs(network, interpreter, data, chosen, cfg.pairs, cfg.composites, cfg.seed)
    about = {"model": cfg.model.name, "interp": interpreter.name, "composites": cfg.composites, "seed": cfg.seed}
    record, output = about | record_of(pairs), Path(cfg.output).expanduser()
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, record)
    console.print(_table(pairs[:SHOWN]))
    console.print(f"{record['verdict']}, for {interpreter.name} on {cfg.model.name}.", markup=False)
    if best := record["best"]:
        console.print(
            f"Take fooling=active fooling.c1={best['classes'][0]} fooling.c2={best['classes'][1]} fooling.gated=true",
            markup=False,
        )
    console.print(f"All pairs: {output}", markup=False)
    return output


def _table(pairs: list[PairOfClasses]) -> Table:
    table = Table("c1", "c2", title="Both original maps in their own tiles", title_justify="left")
    for head in ("both", "c1", "c2"):
        table.add_column(head, justify="right")
    for pair in pairs:
        names = (f"{printable(name)} ({c})" for name, c in zip(pair.names, pair.classes, strict=True))
        table.add_row(*names, *(f"{100 * pair.pointing[key]:.1f} %" for key in ("both", "c1", "c2")))
    return table
