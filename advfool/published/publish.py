"""From the runs of a sweep to the table or figure it was made for: `published/NAME/` in the sweep's folder."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from advfool.errors import AdvfoolError
from advfool.published.adversarial import draw_phases, phases
from advfool.published.curves import aopc_curves, draw_aopc, draw_noise, noise
from advfool.published.grids import active_grid, passive_grid
from advfool.published.iterations import by_iteration, draw_iterations
from advfool.published.record import as_markdown, of_table, record_of
from advfool.published.tables import PASSIVE, TABLES, of_the_paper
from advfool.run_folder import write_json
from advfool.runs import Run, find_runs

log = logging.getLogger(__name__)
Maker = Callable[[Sequence[Run], Mapping, Path], tuple[dict, Sequence[Run]]]  # writes files; its numbers and runs
MORE_IMAGES = (1, 2, 3)  # of those that every run keeps, for Figures 11 to 17


def publish(name: str, folder: Path, scale: Mapping) -> Path | None:
    """Writes measured.json and the rendered table or figure; returns their folder, None where no run has finished.

    scale: its name, and under `measure` the settings of what is measured on finished runs.

    Raises:
        AdvfoolError: the paper has nothing of this name.
    """
    if name not in MAKERS:
        raise AdvfoolError(f"published={name}: expected one of {', '.join(MAKERS)}.")
    runs = [run for run in find_runs(folder) if run.metrics and run.folder.parent == folder]
    if not runs:
        log.warning("No run has finished in %s: %s has to wait.", folder, name)
        return None
    target = folder / "published" / name
    target.mkdir(parents=True, exist_ok=True)
    result, used = MAKERS[name](runs, scale, target)
    write_json(target / "measured.json", record_of(name, scale["name"], used, result))
    log.info("%s of %d runs: %s", name, len(used), target)
    return target


def _table(name: str) -> Maker:
    def make(runs: Sequence[Run], scale: Mapping, target: Path) -> tuple[dict, Sequence[Run]]:
        table = TABLES[name](runs)
        used = {run for row in table.rows for cell in row.cells for run in cell.runs}
        (target / f"{name}.md").write_text(as_markdown(table) + "\n")
        return of_table(table), [run for run in runs if run.name in used]

    return make


def _fig2(runs: Sequence[Run], scale: Mapping, target: Path) -> tuple[dict, Sequence[Run]]:
    used = _one_seed(of_the_paper(runs, PASSIVE), scale)
    passive_grid(target / "fig2.png", used)
    return {"fsr": _fsr(used)}, used


def _fig3(runs: Sequence[Run], scale: Mapping, target: Path) -> tuple[dict, Sequence[Run]]:
    used = _one_seed(of_the_paper(runs, ("active",)), scale)
    active_grid(target / "fig3.png", used)
    return {"fsr": _fsr(used)}, used


def _fig11_17(runs: Sequence[Run], scale: Mapping, target: Path) -> tuple[dict, Sequence[Run]]:
    passive, active = (_one_seed(of_the_paper(runs, foolings), scale) for foolings in (PASSIVE, ("active",)))
    for nth in MORE_IMAGES:
        if passive:
            passive_grid(target / f"passive_{nth}.png", passive, nth)
        if active:
            active_grid(target / f"active_{nth}.png", active, nth)
    return {"fsr": _fsr([*passive, *active])}, [*passive, *active]


def _fig4a(runs: Sequence[Run], scale: Mapping, target: Path) -> tuple[dict, Sequence[Run]]:
    used = [run for run in runs if (run.model, run.fooling, run.interp) == (scale["densenet"], "topk", "gradcam")]
    result = aopc_curves(used, **scale["measure"]["aopc"])
    draw_aopc(target / "fig4a.png", result)
    return result, used


def _fig4b(runs: Sequence[Run], scale: Mapping, target: Path) -> tuple[dict, Sequence[Run]]:
    used = [run for run in runs if (run.model, run.fooling, run.interp) == (scale["resnet"], "location", "lrp_t")]
    result = noise(used, **scale["measure"]["noise"])
    draw_noise(target / "fig4b.png", result)
    return result, used


def _fig4c(runs: Sequence[Run], scale: Mapping, target: Path) -> tuple[dict, Sequence[Run]]:
    result = phases(runs, scale["measure"]["plain"], **scale["measure"]["pgd"])
    draw_phases(target / "fig4c.png", result, runs[0])
    return result, runs


def _iterations(name: str) -> Maker:
    def make(runs: Sequence[Run], scale: Mapping, target: Path) -> tuple[dict, Sequence[Run]]:
        for run in runs:
            draw_iterations(target / f"{name}-{run.fooling}-seed{run.seed}.png", run)
        return by_iteration(runs), runs

    return make


def _one_seed(runs: Sequence[Run], scale: Mapping) -> list[Run]:
    """Those of the first seed and of the networks that a figure shows."""
    models = scale["networks"].split(",")
    seed = min((run.seed for run in runs), default=0)
    return [run for run in runs if run.seed == seed and run.model in models]


def _fsr(runs: Sequence[Run]) -> dict:
    return {run.name: run.matched_fsr for run in runs}


MAKERS: dict[str, Maker] = {
    **{name: _table(name) for name in TABLES},
    "fig2": _fig2,
    "fig3": _fig3,
    "fig11_17": _fig11_17,
    "fig4a": _fig4a,
    "fig4b": _fig4b,
    "fig4c": _fig4c,
    "fig5b": _iterations("fig5b"),
    "fig7_10": _iterations("fig7_10"),
}
