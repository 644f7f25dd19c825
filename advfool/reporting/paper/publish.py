"""From the runs of a sweep to the table or figure it was made for: `paper/NAME/` in the sweep's folder."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from advfool.evaluation.examples import read_examples
from advfool.reporting.paper.adversarial import draw_phases, phases
from advfool.reporting.paper.curves import aopc_curves, draw_aopc, draw_noise, noise
from advfool.reporting.paper.grids import active_grid, passive_grid
from advfool.reporting.paper.iterations import by_iteration, draw_iterations
from advfool.reporting.paper.record import as_markdown, of_table, record_of
from advfool.reporting.paper.tables import PASSIVE, TABLES, of_the_paper
from advfool.reporting.runs import Run, find_runs
from advfool.training.callbacks import SNAPSHOTS
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import write_json

log = logging.getLogger(__name__)
Choice = Callable[[Sequence[Run], Mapping], Sequence[Run]]
Maker = Callable[[Sequence[Run], Mapping, Path], dict]  # writes files, returns its numbers
MORE_IMAGES = (1, 2, 3)  # of those that every run keeps, for Figures 11 to 17


def publish(name: str, folder: Path, scale: Mapping) -> Path | None:
    """Writes measured.json and the rendered table or figure of a sweep's cells in `folder`, of those that have finished
    and were not refused; returns where, or None where there are none.

    scale: its name, and under `measure` the settings of what is measured on finished runs.

    Raises:
        AdvfoolError: the paper has nothing of this name.
    """
    if name not in MAKERS:
        raise AdvfoolError(f"paper={name}: expected one of {', '.join(MAKERS)}.")
    began = time.monotonic()
    runs = [run for run in find_runs(folder) if run.metrics and not run.error and run.folder.parent == folder]
    choose, make = MAKERS[name]
    used = choose(runs, scale)
    if not used:
        log.warning("No run of %s has finished in %s: it has to wait.", name, folder)
        return None
    target = folder / "paper" / name
    part = target.with_suffix(".part")  # what is broken off leaves the finished one as it was
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    result = make(used, scale, part)
    write_json(part / "measured.json", record_of(name, scale["name"], used, result, time.monotonic() - began))
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    log.info("%s of %d runs: %s", name, len(used), target)
    return target


# Which of the finished runs a table or figure is made of.


def _of_table(name: str) -> Choice:
    def choose(runs: Sequence[Run], scale: Mapping) -> list[Run]:
        used = {run for row in TABLES[name](runs).rows for cell in row.cells for run in cell.runs}
        return [run for run in runs if run.name in used]

    return choose


def _of_grid(*foolings: str) -> Choice:
    """Those of the first seed and of the networks that a figure shows."""

    def choose(runs: Sequence[Run], scale: Mapping) -> list[Run]:
        found = [run for run in of_the_paper(runs, foolings) if run.model in scale["networks"].split(",")]
        seed = min((run.seed for run in found), default=0)
        return [run for run in found if run.seed == seed and read_examples(run.folder)]

    return choose


def _of_cell(network: str, fooling: str, interp: str) -> Choice:
    def choose(runs: Sequence[Run], scale: Mapping) -> list[Run]:
        return [run for run in runs if (run.model, run.fooling, run.interp) == (scale[network], fooling, interp)]

    return choose


def _with_snapshots(runs: Sequence[Run], scale: Mapping) -> list[Run]:
    return [run for run in runs if (run.folder / SNAPSHOTS).is_file()]


# What is made of them.


def _table(name: str) -> Maker:
    def make(runs: Sequence[Run], scale: Mapping, target: Path) -> dict:
        table = TABLES[name](runs)
        (target / f"{name}.md").write_text(as_markdown(table) + "\n")
        return of_table(table)

    return make


def _fig2(runs: Sequence[Run], scale: Mapping, target: Path) -> dict:
    passive_grid(target / "fig2.png", runs)
    return {"fsr": _fsr(runs)}


def _fig3(runs: Sequence[Run], scale: Mapping, target: Path) -> dict:
    active_grid(target / "fig3.png", runs)
    return {"fsr": _fsr(runs)}


def _fig11_17(runs: Sequence[Run], scale: Mapping, target: Path) -> dict:
    passive, active = ([run for run in runs if (run.fooling == "active") is is_active] for is_active in (False, True))
    for nth in MORE_IMAGES:
        if passive:
            passive_grid(target / f"passive_{nth}.png", passive, nth)
        if active:
            active_grid(target / f"active_{nth}.png", active, nth)
    return {"fsr": _fsr(runs)}


def _fig4a(runs: Sequence[Run], scale: Mapping, target: Path) -> dict:
    result = aopc_curves(runs, **scale["measure"]["aopc"])
    draw_aopc(target / "fig4a.png", result)
    return result


def _fig4b(runs: Sequence[Run], scale: Mapping, target: Path) -> dict:
    result = noise(runs, **scale["measure"]["noise"])
    draw_noise(target / "fig4b.png", result)
    return result


def _fig4c(runs: Sequence[Run], scale: Mapping, target: Path) -> dict:
    result, pictures = phases(runs, scale["measure"]["plain"], **scale["measure"]["pgd"])
    draw_phases(target / "fig4c.png", result, pictures)
    return result


def _iterations(name: str) -> Maker:
    def make(runs: Sequence[Run], scale: Mapping, target: Path) -> dict:
        for run in runs:
            draw_iterations(target / f"{name}-{run.model}-{run.fooling}-{run.interp}-seed{run.seed}.png", run)
        return by_iteration(runs)

    return make


def _fsr(runs: Sequence[Run]) -> dict:
    return {run.name: run.matched_fsr for run in runs}


MAKERS: dict[str, tuple[Choice, Maker]] = {
    **{name: (_of_table(name), _table(name)) for name in TABLES},
    "fig2": (_of_grid(*PASSIVE), _fig2),
    "fig3": (_of_grid("active"), _fig3),
    "fig11_17": (_of_grid(*PASSIVE, "active"), _fig11_17),
    "fig4a": (_of_cell("densenet", "topk", "gradcam"), _fig4a),
    "fig4b": (_of_cell("resnet", "location", "lrp_t"), _fig4b),
    "fig4c": (_of_cell("robust", "location", "gradcam"), _fig4c),
    "fig5b": (_with_snapshots, _iterations("fig5b")),
    "fig7_10": (_with_snapshots, _iterations("fig7_10")),
}
