"""Checkpoints of strangers: what they name is neither read nor removed elsewhere, and code in them is not run."""

import os
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from advfool.commands.resuming import find_interrupted
from advfool.training.checkpoint_paths import best_checkpoint, check_paths
from advfool.utilities.errors import AdvfoolError

HOME = "/runs/a/checkpoints"


@pytest.mark.parametrize(
    "state",
    [
        {"best_model_path": "/etc/victim.ckpt"},
        {"best_model_path": f"{HOME}/../../victim.ckpt"},
        {"last_model_path": f"{HOME}/deeper/victim.ckpt"},
        {"kth_best_model_path": "victim.ckpt"},
        {"best_model_path": "s3://bucket/victim.ckpt"},
        {"best_k_models": {f"{HOME}/best.ckpt": 1.0, "/victim.ckpt": 2.0}},
    ],
)
def test_checkpoints_that_name_files_elsewhere_are_refused(state):
    with pytest.raises(AdvfoolError, match="names the checkpoint '.*victim.ckpt'"):
        check_paths({"callbacks": {"ModelCheckpoint": {"dirpath": HOME, **state}}}, Path("last.ckpt"))


def test_checkpoints_of_lightning_are_taken():
    own = {"dirpath": HOME, "best_model_path": f"{HOME}/best.ckpt", "best_k_models": {f"{HOME}/best.ckpt": 1.0}}
    for states in ({"ModelCheckpoint": own | {"last_model_path": ""}}, {"Other": 3}, None, [], {"x": {}}):
        check_paths({"callbacks": states}, Path("last.ckpt"))


def test_the_best_checkpoint_of_a_run_that_was_moved_is_beside_the_resumed_one():
    def trainer(best, home):
        callback = ModelCheckpoint(home)
        callback.best_model_path = best
        return Trainer(accelerator="cpu", callbacks=[callback], logger=False, default_root_dir="/nowhere")

    resumed = Path("/moved/checkpoints/last.ckpt")
    assert best_checkpoint(trainer(f"{HOME}/best.ckpt", HOME), None) == Path(HOME, "best.ckpt")
    assert best_checkpoint(trainer("/new/best.ckpt", "/new"), resumed) == Path("/new/best.ckpt")
    assert best_checkpoint(trainer(f"{HOME}/best.ckpt", "/new"), resumed) == Path("/moved/checkpoints/best.ckpt")
    assert best_checkpoint(trainer("", "/new"), resumed) is None


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    for content in (Evil(tmp_path / "executed"), {"state_dict": {}, "callbacks": Evil(tmp_path / "executed")}):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        torch.save(content, tmp_path / "checkpoints" / "last.ckpt")
        assert find_interrupted(str(tmp_path), {}) is None
        assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("linked", ["checkpoints", "last.ckpt"])
def test_a_checkpoint_outside_of_the_folder_is_not_read(tmp_path, linked):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    (outside / "last.ckpt").write_bytes(b"x")
    if linked == "checkpoints":
        run.mkdir()
        (run / "checkpoints").symlink_to(outside)
    else:
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "last.ckpt").symlink_to(outside / "last.ckpt")
    with pytest.raises(AdvfoolError, match="leads out of the folder"):
        find_interrupted(str(run), {})
