"""Sweeps: finished runs are skipped, interrupted ones resumed, failures summarised at the end."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from torch import distributed

from advfool.commands.cli import _process_of_job
from advfool.commands.schema import settings_of
from advfool.commands.status import Status
from advfool.commands.sweep import other_settings, run_in_sweep
from advfool.reporting.runs import find_runs
from advfool.utilities.errors import AdvfoolError
from tests.helpers.callbacks import INTERRUPT
from tests.helpers.command import SMALL, metrics_of, run_here, weights_of, without_times

OPTIONS = ["-m", *SMALL, "trainer.max_steps=8", "trainer.val_check_interval=2", "pictures=0", "evaluate_with=[]"]


def sweep(folder: Path, *overrides: str):
    return run_here("advfool.train", [*OPTIONS, f"hydra.sweep.dir={folder}", *overrides])


def cell(folder: Path, seed: int) -> Path:
    (found,) = folder.glob(f"resnet_tiny-location-gradcam-seed{seed}-*")
    return found


def status(folder: Path, seed: int) -> dict:
    return json.loads((cell(folder, seed) / "status.json").read_text())


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of which one cell failed as expected, and one with an error nobody expected."""
    folder = tmp_path_factory.mktemp("sweep") / "cells"
    (folder.parent / "a_bug.py").write_text("def callback():\n    raise RuntimeError('a bug')\n")
    sys.path.insert(0, str(folder.parent))
    bug = ["+callbacks.bug._target_=a_bug.callback", "seed=3"]
    results = sweep(folder, "seed=0,-1,1"), sweep(folder, *bug)
    sys.path.remove(str(folder.parent))
    return folder, *results


def test_a_failing_cell_stops_no_other_and_is_told_of_at_the_end(swept):
    folder, result, _ = swept
    assert result.returncode == 1
    assert "3 runs in" in result.stderr
    assert "2 finished, 1 failed." in result.stderr
    told = result.stderr[result.stderr.index("3 runs in") :]
    assert f"failed: {cell(folder, -1).name}" in told
    assert "seed must be an integer from 0 to 2^32 - 1, got -1." in told
    assert f"log: {cell(folder, -1)}/train.log" in told
    assert "Traceback" not in result.stderr
    assert [status(folder, seed)["outcome"] for seed in (0, -1, 1)] == ["finished", "failed", "finished"]
    states = {run.seed: run.state for run in find_runs(folder)}
    assert states == {0: "finished", -1: "failed", 1: "finished", 3: "failed"}


def test_an_error_that_nobody_expected_leaves_its_traceback_in_the_log(swept):
    folder, _, result = swept
    assert result.returncode == 1
    assert "RuntimeError: a bug" in result.stderr
    assert "RuntimeError: a bug" in (cell(folder, 3) / "train.log").read_text()
    assert status(folder, 3)["error"].endswith("RuntimeError: a bug")


def test_the_report_is_there_at_the_end(swept):
    folder = swept[0]
    assert all((folder / name).stat().st_size > 100 for name in ("report.html", "report.md", "results.csv"))


def test_finished_cells_are_skipped(swept):
    folder = swept[0]
    os.utime(cell(folder, 0) / "metrics.json", ns=(0, 0))
    result = sweep(folder, "seed=0,1,2")
    assert result.returncode == 0, result.stderr
    assert "3 runs in" in result.stderr
    assert "1 finished, 2 finished before." in result.stderr
    assert (cell(folder, 0) / "metrics.json").stat().st_mtime_ns == 0  # not written again
    assert status(folder, 0)["outcome"] == "skipped"


def test_a_folder_with_other_settings_is_not_taken_for_the_cell(swept):
    folder = swept[0]
    path = cell(folder, 0) / "status.json"
    content = json.loads(path.read_text())
    content["settings"]["fool_weight"] = 3
    path.write_text(json.dumps(content))
    for _ in range(2):  # the refusal does not make it right
        result = sweep(folder, "seed=0")
        assert result.returncode == 1
        assert "holds a run with other settings: fool_weight 3 -> 4. Give this one another folder" in result.stderr
    assert metrics_of(cell(folder, 0))["fool_weight"] == 4


def test_an_interrupted_sweep_goes_on(tmp_path, monkeypatch):
    cells = ["seed=0,1", INTERRUPT]
    assert sweep(tmp_path / "whole", *cells).returncode == 0
    monkeypatch.setenv("INTERRUPT_AT", "5")
    first = sweep(tmp_path / "broken", *cells)
    monkeypatch.delenv("INTERRUPT_AT")
    assert first.returncode == 130
    assert "1 runs in" in first.stderr
    assert "1 interrupted." in first.stderr
    assert "Interrupted. To resume, give the command again: python -m advfool.train -m" in first.stderr
    assert find_runs(tmp_path / "broken")[0].state == "unfinished"
    again = sweep(tmp_path / "broken", *cells)
    assert again.returncode == 0, again.stderr
    assert "Resuming the training that was interrupted" in (cell(tmp_path / "broken", 0) / "train.log").read_text()
    for seed in (0, 1):
        one, other = (cell(tmp_path / name, seed) for name in ("whole", "broken"))
        assert without_times(metrics_of(one)) == without_times(metrics_of(other))
        assert all((value == weights_of(other)[name]).all() for name, value in weights_of(one).items())


def test_ctrl_c_ends_a_sweep_of_several_processes_and_leaves_what_goes_on(tmp_path):
    overrides = [*OPTIONS, f"hydra.sweep.dir={tmp_path}", "seed=0,1,2", "launcher=joblib"]
    command = [
        sys.executable,
        "-m",
        "advfool.train",
        *overrides,
        "trainer.max_steps=1000000",
    ]  # ends by no machine's speed
    errors = tmp_path / "stderr.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, start_new_session=True, stderr=stderr)
    try:
        while len(list(tmp_path.glob("*/checkpoints/last.ckpt"))) < 2:
            assert process.poll() is None, errors.read_text()
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    err = errors.read_text()
    assert process.returncode == 130, err
    assert "Interrupted." in err
    assert {run.state for run in find_runs(tmp_path)} == {"unfinished"}


def test_settings_of_callbacks_that_change_the_result_tell_cells_apart():
    names = [other_settings([f"callbacks.{setting}"], _root_=cell_config()) for setting in (
        "free_adversarial.epsilon=0.01", "free_adversarial.epsilon=0.02", "divergence.max_accuracy_drop=0.9",
        "snapshots.every_n_validations=1", "map_metrics.every_n_validations=1",
    )]  # fmt: skip
    assert len(set(names[:3])) == 3
    assert names[3:] == ["", ""]
    assert other_settings(["trainable=[layer4,fc]"]) != other_settings(["trainable=[layer4_fc]"])


def cell_config(**settings) -> DictConfig:
    callbacks = {
        "free_adversarial": {"_target_": "advfool.training.adversarial.FreeAdversarialTraining", "epsilon": 0.01},
        "snapshots": {"_target_": "advfool.training.callbacks.HeatmapSnapshots", "images": 4},
        "map_metrics": {"_target_": "advfool.training.callbacks.MapMetrics"},
    }
    return OmegaConf.create({"resume": None, "seed": 0, "callbacks": callbacks} | settings)


def test_a_cell_of_another_attack_is_refused_and_one_that_shows_more_is_not(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    Status(tmp_path).write("finished", settings_of(cell_config()))
    other = cell_config()
    other.callbacks.free_adversarial.epsilon = 0.02
    assert run_in_sweep(lambda cfg: "ran", other, tmp_path, lambda _: "read") != "read"
    assert "free_adversarial.epsilon 0.01 -> 0.02" in json.loads((tmp_path / "status.json").read_text())["error"]
    shown = cell_config()
    shown.callbacks.snapshots.images = 9
    assert run_in_sweep(lambda cfg: "ran", shown, tmp_path, lambda _: "read") == "read"


def test_what_a_failed_cell_left_is_not_gone_on_with_under_other_settings(tmp_path):
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    Status(tmp_path).fail("diverged", settings_of(cell_config(seed=1)))

    def broken_off(cfg):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_sweep(broken_off, cell_config(), tmp_path, str)
    assert not last.exists()
    assert run_in_sweep(lambda cfg: cfg.resume, cell_config(), tmp_path, str) is None


def test_a_refusal_changes_nothing_of_what_was_broken_off(tmp_path):
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    Status(tmp_path).write("running", settings_of(cell_config()))
    wrong = [cell_config(seed=2), cell_config(seed=2), cell_config(other="${nowhere}"), cell_config(seed=2)]
    for cfg in wrong:
        assert math.isnan(run_in_sweep(lambda cfg: "ran", cfg, tmp_path, str))
        assert json.loads((tmp_path / "status.json").read_text())["outcome"] == "failed"
    assert run_in_sweep(lambda cfg: cfg.resume, cell_config(), tmp_path, str) == str(tmp_path)
    assert last.exists()


def test_a_cell_with_numbers_that_json_lacks_fails_by_itself(tmp_path):
    def refuse(cfg):
        raise AdvfoolError("fool_weight is infinite")

    assert math.isnan(run_in_sweep(refuse, cell_config(fool_weight=math.inf), tmp_path, str))
    assert json.loads((tmp_path / "status.json").read_text())["settings"]["fool_weight"] == "inf"


KILLER = """
import os, signal, time
from pathlib import Path
def callback(seed):
    end = time.time() + 120
    while seed == 1 and time.time() < end and len(list(Path(__file__).parent.glob("cells/*/status.json"))) < 2:
        time.sleep(0.1)  # until the other worker has begun its run, however slow it is
    os.kill(os.getpid(), signal.SIGKILL) if seed == 1 else None
"""


def test_a_killed_worker_ends_the_sweep_with_its_account_and_report(tmp_path):
    (tmp_path / "killer.py").write_text(KILLER)
    overrides = [
        *OPTIONS,
        f"hydra.sweep.dir={tmp_path / 'cells'}",
        "seed=0,1",
        "launcher=joblib",
        "+callbacks.k.seed=${seed}",
    ]
    command = [sys.executable, "-m", "advfool.train", *overrides, "+callbacks.k._target_=killer.callback"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "2 runs in" in done.stderr
    assert "Give the command again to resume it." in done.stderr
    assert (tmp_path / "cells" / "report.html").exists()


def slurm_process(rank: int, job: int, folder: Path, results) -> None:
    """One of two processes that Slurm has started for a cell; the task needs both."""
    os.environ |= {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": str(job), "SLURM_PROCID": str(rank)}
    assert _process_of_job() == rank

    def task(cfg):
        meeting = f"file://{folder}/meeting"
        distributed.init_process_group("gloo", meeting, timedelta(hours=1), world_size=2, rank=rank)
        distributed.barrier()
        if rank == 0:
            (folder / "metrics.json").write_text("{}")
        return cfg.resume

    cfg = OmegaConf.create({"resume": None, "seed": 0})
    results.put((rank, run_in_sweep(task, cfg, folder, lambda _: "read", rank)))


@pytest.mark.parametrize("begun", [False, True])
def test_the_processes_that_slurm_starts_for_a_cell_run_it_together(tmp_path, begun):
    if begun:  # and broken off
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "last.ckpt").touch()
        Status(tmp_path).write("running", {"seed": 0})
    context = get_context("spawn")
    for job, expected in enumerate([str(tmp_path) if begun else None, "read"]):  # the second time the cell is finished
        results = context.Queue()
        processes = [
            context.Process(target=slurm_process, args=(rank, job, tmp_path, results), daemon=True) for rank in (1, 0)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
        found = dict(results.get() for _ in processes)
        assert found == {0: expected, 1: expected}


def test_names_are_short_and_safe_and_tell_cells_apart():
    data = {"_target_": "advfool.data.FolderModule", "root": "photos"}
    name = other_settings(
        ["model.weights=/a b/c.pt", "interp.layer='x'", "data.root=/somewhere", "seed=1"], _root_=cell_config(data=data)
    )
    assert re.fullmatch(r"-[0-9a-f]{8}", name)
    names = [other_settings([f"model.weights={'w' * 300}{end}"]) for end in "ab"]
    assert len(set(names)) == 2


def test_a_search_has_two_objectives_and_goes_on(tmp_path):
    command = [*OPTIONS, "search=pareto", "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={tmp_path}"]
    for outcome in ("finished", "skipped"):  # the same trials again
        result = run_here("advfool.train", command)
        assert result.returncode == 0, result.stderr
        found = [json.loads(path.read_text()) for path in tmp_path.glob("*/status.json")]
        assert [status["outcome"] for status in found] == [outcome] * 2
    weights = {run.config["fool_weight"] for run in find_runs(tmp_path)}
    assert len(weights) == 2
    assert (tmp_path / "report.html").exists()
