"""The table or figure that a sweep was made for, written to `paper/NAME/` in the sweep's folder."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from advfool.evaluation.examples import read_examples
from advfool.reporting.paper.adversarial import draw_phases, phases
from advfool.reporting.paper.curves import aopc_curves, draw_aopc, draw_noise, noise
from advfool.reporting.paper.grids import active_grid, passive_grid
from advfool.reporting.paper.iterations import by_iteration, draw_iterations
from advfool.reporting.paper.record import as_markdown, of_table, record_of
from advfool.reporting.paper.tables import BESIDE, PASSIVE, TABLES, of_the_paper
from advfool.reporting.runs import Run, find_runs
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import SNAPSHOTS, write_json
from advfool.utilities.stored import stored_path
from advfool.utilities.text import file_name
from advfool.utilities.trust import Trust

log = logging.getLogger(__name__)
Scale = Mapping[str, Any]
Choice = Callable[[Sequence[Run], Scale], Sequence[Run]]
Maker = Callable[[Sequence[Run], Scale, Path], dict[str, Any]]  # writes files, returns the numbers
MORE_IMAGES = (1, 2, 3)  # of the example images that all runs have in common, for Figures 11 to 17


def publish(name: str, folder: Path, scale: Scale, trust: Trust | None = None) -> Path | None:
    """Write a table or figure of the paper and its record, measured.json, from the finished runs of a sweep.

    Args:
        name: of the table or figure, such as `table1`.
        folder: of the sweep.
        scale: its `name`, and under `measure` the settings of what is measured on finished runs.
        trust: what the runs' configurations may name; None: nothing outside of the folder.

    Returns:
        the folder that was written, or None where no run that the table or figure needs has finished.

    Raises:
        AdvfoolError: the paper has nothing of this name.
    """
    if name not in MAKERS:
        raise AdvfoolError(f"paper={name}: expected one of {', '.join(MAKERS)}.")
    began = time.monotonic()
    trust = trust or Trust((folder,))
    runs = [replace(run, trust=trust) for run in find_runs(folder) if run.folder.parent == folder]
    runs = [run for run in runs if run.metrics and not run.error]
    choose, make = MAKERS[name]
    used = choose(runs, scale)
    if not used:
        log.warning("%s is skipped: no finished run in %s.", name, folder)
        return None
    target = stored_path(folder, Path("paper", name))
    part = target.with_suffix(".part")  # an earlier result stays as it is until this one is complete
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    result = make(used, scale, part)
    write_json(part / "measured.json", record_of(name, scale["name"], used, result, time.monotonic() - began))
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    log.info("%s of %d runs: %s", name, len(used), target)
    return target


# Choosing the finished runs that a table or figure is made from.


def _of_table(name: str) -> Choice:
    def choose(runs: Sequence[Run], scale: Scale) -> list[Run]:
        used = {run for row in TABLES[name](runs).rows for cell in row.cells for run in cell.runs}
        return [run for run in runs if run.name in used]

    return choose


def _of_grid(*foolings: str) -> Choice:
    """Choose the runs of the first seed and of the networks that a figure shows."""

    def choose(runs: Sequence[Run], scale: Scale) -> list[Run]:
        found = [run for run in of_the_paper(runs, foolings) if run.model in scale["networks"].split(",")]
        seed = min((run.seed for run in found), default=0)
        return [run for run in found if run.seed == seed and read_examples(run.folder)]

    return choose


def _of_one(network: str, fooling: str, interp: str) -> Choice:
    def choose(runs: Sequence[Run], scale: Scale) -> list[Run]:
        return [run for run in runs if (run.model, run.fooling, run.interp) == (scale[network], fooling, interp)]

    return choose


def _with_snapshots(runs: Sequence[Run], scale: Scale) -> list[Run]:
    return [run for run in runs if (run.folder / SNAPSHOTS).is_file()]


# Making a table or figure from the chosen runs.


def _table(name: str) -> Maker:
    def make(runs: Sequence[Run], scale: Scale, target: Path) -> dict[str, Any]:
        table = TABLES[name](runs)
        (target / f"{name}.md").write_text(as_markdown(table) + "\n")
        return of_table(table)

    return make


def _fig2(runs: Sequence[Run], scale: Scale, target: Path) -> dict[str, Any]:
    passive_grid(target / "fig2.png", runs)
    return _rates(runs)


def _fig3(runs: Sequence[Run], scale: Scale, target: Path) -> dict[str, Any]:
    active_grid(target / "fig3.png", runs)
    return _rates(runs)


def _fig11_17(runs: Sequence[Run], scale: Scale, target: Path) -> dict[str, Any]:
    passive, active = ([run for run in runs if (run.fooling == "active") is is_active] for is_active in (False, True))
    for nth in MORE_IMAGES:
        if passive:
            passive_grid(target / f"passive_{nth}.png", passive, nth)
        if active:
            active_grid(target / f"active_{nth}.png", active, nth)
    return _rates(runs)


def _fig4a(runs: Sequence[Run], scale: Scale, target: Path) -> dict[str, Any]:
    result = aopc_curves(runs, **scale["measure"]["aopc"])
    draw_aopc(target / "fig4a.png", result)
    return result


def _fig4b(runs: Sequence[Run], scale: Scale, target: Path) -> dict[str, Any]:
    result = noise(runs, **scale["measure"]["noise"])
    draw_noise(target / "fig4b.png", result)
    return result


def _fig4c(runs: Sequence[Run], scale: Scale, target: Path) -> dict[str, Any]:
    result, pictures = phases(runs, scale["measure"]["plain"], **scale["measure"]["pgd"])
    draw_phases(target / "fig4c.png", result, pictures)
    return result


def _iterations(name: str) -> Maker:
    def make(runs: Sequence[Run], scale: Scale, target: Path) -> dict[str, Any]:
        for run in runs:
            own = file_name(f"{name}-{run.model}-{run.fooling}-{run.interp}-seed{run.seed}")
            draw_iterations(target / f"{own}.png", run)
        return by_iteration(runs)

    return make


def _rates(runs: Sequence[Run]) -> dict[str, dict[str, float | None]]:
    """Collect the FSR of each run and what stands beside it."""
    return {key: {run.name: run.matched(key) for run in runs} for key in ("fsr", *BESIDE.values())}


MAKERS: dict[str, tuple[Choice, Maker]] = {
    **{name: (_of_table(name), _table(name)) for name in TABLES},
    "fig2": (_of_grid(*PASSIVE), _fig2),
    "fig3": (_of_grid("active"), _fig3),
    "fig11_17": (_of_grid(*PASSIVE, "active"), _fig11_17),
    "fig4a": (_of_one("densenet", "topk", "gradcam"), _fig4a),
    "fig4b": (_of_one("resnet", "location", "lrp_t"), _fig4b),
    "fig4c": (_of_one("robust", "location", "gradcam"), _fig4c),
    "fig5b": (_with_snapshots, _iterations("fig5b")),
    "fig7_10": (_with_snapshots, _iterations("fig7_10")),
}
