"""The folder that a command writes into: links in it do not make the command write somewhere else."""

import os

import pytest

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.stored import check_writable
from tests.helpers.command import run_here

FILES = ["config.yaml", "metrics.json", "metrics.part", "train.log", ".lock", "heatmaps.png", ".hydra/config.yaml"]


@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "outside"
    path.mkdir()
    (path / "mine").write_text("mine")
    return path


@pytest.mark.parametrize("target", ["mine", "new"])
@pytest.mark.parametrize("name", [*FILES, "checkpoints/last.ckpt"])
def test_links_from_files_that_lead_out_are_refused(tmp_path, outside, name, target):
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / target)
    with pytest.raises(AdvfoolError, match="leads out of the folder"):
        check_writable(tmp_path / "run")


@pytest.mark.parametrize("name", [".hydra", "checkpoints", "wandb", "tensorboard", "paper"])
def test_links_from_folders_that_lead_out_are_refused(tmp_path, outside, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(outside)
    with pytest.raises(AdvfoolError, match="leads out of the folder"):
        check_writable(tmp_path / "run")


def test_links_of_a_user_are_kept(tmp_path, outside):
    run = tmp_path / "run"
    (run / "wandb").mkdir(parents=True)
    (run / "wandb" / "latest-run").symlink_to("run-1")
    (run / "photos").symlink_to(outside)
    (run / "best.ckpt").symlink_to("checkpoints/best.ckpt")
    check_writable(run)
    check_writable(tmp_path / "nowhere")


def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "train.log")
    with pytest.raises(AdvfoolError, match="train.log' is no file"):
        check_writable(tmp_path)


@pytest.mark.parametrize("name", [*FILES, "checkpoints/last.ckpt"])
def test_folders_with_the_name_of_a_file_are_refused(tmp_path, name):
    (tmp_path / name / "mine").mkdir(parents=True)
    with pytest.raises(AdvfoolError, match="is a folder, but a run writes a file of this name"):
        check_writable(tmp_path)


@pytest.mark.parametrize("name", [".hydra", "checkpoints"])
def test_files_with_the_name_of_a_folder_are_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(AdvfoolError, match="is a file, but a run writes a folder of this name"):
        check_writable(tmp_path)


@pytest.mark.parametrize("name", ["train.log", "config.yaml", ".hydra", "metrics.part"])
def test_a_run_in_a_strangers_folder_writes_nothing_elsewhere(tmp_path, outside, name):
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(outside if name == ".hydra" else outside / "mine")
    done = run_here("advfool.train", [f"hydra.run.dir={run}", "model.weights=null"])
    assert done.returncode == 1
    assert "leads out of the folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in outside.iterdir()] == ["mine"]
    assert (outside / "mine").read_text() == "mine"
    assert [path.name for path in run.iterdir()] == [name]


@pytest.mark.parametrize("deep", [True, False])
def test_a_sweep_in_a_strangers_folder_writes_nothing_elsewhere(tmp_path, outside, deep):
    sweep, name = tmp_path / "sweep", "resnet_tiny-location-gradcam-seed0"
    sweep.mkdir()
    if deep:
        (sweep / name).mkdir()
        (sweep / name / "status.json").symlink_to(outside / "mine")
    else:
        (sweep / name).symlink_to(outside)
    options = ["model.weights=null", "seed=0", "trainer.max_steps=1"]
    done = run_here("advfool.train", ["-m", f"hydra.sweep.dir={sweep}", *options])
    assert done.returncode == 1
    assert "leads out of the folder" in done.stderr
    assert [path.name for path in outside.iterdir()] == ["mine"]
    assert (outside / "mine").read_text() == "mine"
