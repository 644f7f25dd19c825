"""Weights & Biases: one W&B run for each run's folder, online or recorded for `wandb sync`."""

import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow.parquet as pq
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from advfool.training.loggers.base import Dashboard, ReportWriter, require, scalars
from advfool.utilities.files import METRICS, PER_IMAGE, STATUS, WEIGHTS, read_json
from advfool.utilities.kinds import Text
from advfool.utilities.stored import free_path, stored_bytes

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)
ID = Path("wandb", "id.txt")  # in a run's folder
STEP = "trainer/global_step"  # Lightning's name
ROWS = 10_000  # of a table, which W&B shows
REPORT = {
    ".json",
    ".yaml",
    ".csv",
    ".parquet",
    ".png",
    ".html",
    ".md",
    ".tex",
}  # files that go into the report's artifact


class Wandb(Dashboard, WandbLogger):
    """Logs to a W&B run; a resumed run, or one started again in the same folder, continues its W&B run.

    Args:
        folder: of the run.
        resume: folder of the run that is resumed.
        group: what the runs of one experiment have in common; None: the name of a sweep's folder.
        tags: of the W&B run; None among them are left out.
        mode: online, offline or disabled; None: what WANDB_MODE says, else offline where no account is known.
        project: W&B's project.
        kwargs: further arguments of wandb.init.

    Raises:
        AdvfoolError: wandb is not installed.
    """

    def __init__(
        self,
        folder: Text,
        resume: Text | None = None,
        group: Text | None = None,
        tags: Sequence[str | None] = (),
        mode: Literal["online", "offline", "disabled"] | None = None,
        project: Text = "advfool",
        **kwargs,
    ) -> None:
        require("wandb")
        run = None
        if getattr(rank_zero_only, "rank", 0) == 0:
            place = Path(folder)
            group = group or (place.parent.name if (read_json(place / STATUS) or {}).get("sweep") else None)
            run = _begin(place, resume, mode, project, group=group, tags=[tag for tag in tags if tag], **kwargs)
        super().__init__(experiment=run, save_dir=folder, project=project)

    def show_config(self, config: dict) -> None:
        self.log_hyperparams(config)
        interps = dict.fromkeys([config["interp"]["name"], *(config.get("interpreters") or ())])
        for name in ("val/top1", *(f"val/fsr/{interp}" for interp in interps)):  # W&B would not look behind "*"
            self.experiment.define_metric(name, step_metric=STEP, step_sync=True, summary="min,max,last")

    def show_picture(self, path: Path, step: int) -> None:
        self.log_image(f"pictures/{path.stem}", [str(path)], step)

    def show_results(self, folder: Path, metrics: Mapping, step: int, write_report: ReportWriter | None) -> None:
        self.show_pictures(folder, step)
        table = pq.read_table(folder / PER_IMAGE)
        shown = rows_to_show(table.num_rows)
        if shown.step > 1:
            log.info("W&B shows one row in %d of per_image.parquet; the report's artifact has all.", shown.step)
        columns = [column[shown] for column in table.to_pydict().values()]
        self.log_table("per_image", table.column_names, [list(row) for row in zip(*columns, strict=True)], step=step)
        self.experiment.summary.update(scalars(metrics))
        self._log_artifacts(folder, write_report)

    def _log_artifacts(self, folder: Path, write_report: ReportWriter | None) -> None:
        """Log the weights, and the run's files with a page about the run, as artifacts."""
        import wandb

        run = self.experiment
        weights = wandb.Artifact(f"weights-{run.id}", "model")
        weights.add_file(str(folder / WEIGHTS), policy="immutable")  # read where it lies, not copied
        report = wandb.Artifact(f"report-{run.id}", "report")
        folders = [folder, write_report(folder, folder / "report").parent] if write_report else [folder]
        for path in sorted(path for each in folders for path in each.iterdir()):
            if path.suffix in REPORT and path.name != STATUS:
                report.add_file(str(path), name=str(path.relative_to(folder)))
        run.log_artifact(weights)
        run.log_artifact(report)


def rows_to_show(total: int) -> slice:
    """Choose evenly spaced rows, no more than W&B shows of a table: a file's first ones would be of few classes."""
    return slice(None, None, max(-(-total // ROWS), 1))


@contextmanager
def wandb_ended() -> Iterator[None]:
    """End the W&B run that started within the context, as failed where an exception passes; say how to upload it."""
    code = 1
    try:
        yield
        code = 0
    finally:
        run = getattr(sys.modules.get("wandb"), "run", None)
        if run:
            run.finish(exit_code=code)
            if run.offline:
                place = shlex.quote(str(Path(run.dir).parent))
                log.info("Recorded for W&B. To upload it: wandb login, then wandb sync %s", place)


def _begin(folder: Path, resume: str | None, mode: str | None, project: str, **kwargs) -> "wandb.Run":
    import wandb

    if not mode and not os.environ.get("WANDB_MODE") and not wandb.login(prompt=False, verify=False):
        log.info("No W&B account is known here (wandb login, WANDB_API_KEY): the run is recorded offline.")
        mode = "offline"
    settings = wandb.Settings(quiet=True)  # no curves on the console
    if not os.environ.get("WANDB_SWEEP_ID"):  # else its agent says which run of which project this is
        kwargs |= {"project": project, "id": _id(folder, resume), "resume": "allow"}
    kwargs |= {"dir": str(folder), "mode": mode, "job_type": "train", "settings": settings}
    run = wandb.init(reinit="finish_previous", **kwargs)
    if not run.disabled:
        free_path(folder, ID).write_text(run.id)
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    return run


def _id(folder: Path, resume: str | None) -> str | None:
    """Find the id of the W&B run that is continued: of an interrupted run in this folder or of the resumed one."""
    if not resume and (folder / METRICS).exists():
        return None
    place = Path(resume or folder).expanduser()
    if not (place / ID).exists():
        return None
    found = stored_bytes(place, ID).decode(errors="replace").strip()
    return found if re.fullmatch(r"[\w-]{1,64}", found) else None  # a name, and no address
