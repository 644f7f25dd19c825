"""Folders: a run is done once in its folder, and never over another one; what is damaged is made again."""

import errno
import json

import pytest
from omegaconf import OmegaConf

from advfool.commands.own_folder import expected, run_in_folder
from advfool.commands.status import differences, read_status
from advfool.utilities.errors import AdvfoolError

CONFIG = {"resume": None, "seed": 0, "fool_weight": 1}


def do(folder, result=lambda folder: "read", **settings):
    """Do a made-up run; it returns what it was resumed from."""

    def task(cfg):
        (folder / "metrics.json").write_text("{}")
        return cfg.resume

    return run_in_folder(task, OmegaConf.create(CONFIG | settings), folder, result)


def test_an_identical_finished_run_is_reported_as_done_and_another_one_refused(tmp_path):
    assert do(tmp_path) is None
    assert do(tmp_path) == "read"
    status = (tmp_path / "status.json").read_text()
    with pytest.raises(AdvfoolError, match="holds a run with other settings: fool_weight 1 -> 2"):
        do(tmp_path, fool_weight=2)
    assert (tmp_path / "status.json").read_text() == status
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".lock", ".part"))]


def test_damaged_results_are_made_again(tmp_path):
    def damaged(folder):
        raise AdvfoolError("metrics.json is damaged.")

    do(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert do(tmp_path, damaged) == str(tmp_path)  # resumed


@pytest.mark.parametrize("value", [["a", None], {"a": {"b": [1]}}, -1, 0.5, True])
@pytest.mark.parametrize("key", ["outcome", "holds", "settings", "seconds", "error", "sweep", "resume", "job"])
def test_a_status_with_a_value_of_another_kind_counts_as_none(tmp_path, key, value):
    do(tmp_path)
    if (key, value) in (("settings", {"a": {"b": [1]}}), ("seconds", 0.5)):
        return
    status = json.loads((tmp_path / "status.json").read_text())
    (tmp_path / "status.json").write_text(json.dumps(status | {key: value}))
    assert read_status(tmp_path) is None
    assert do(tmp_path) == "read"


def test_differences_from_a_strangers_settings_are_short_and_command_no_terminal():
    (shown,) = differences({"seed": "\x1b]0;title\x07" + "x" * 5000}, {"seed": 0})
    assert "\x1b" not in shown
    assert len(shown) < 200


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", '{"outcome": 3}', '{"outcome": "finished", "settings": [1]}', "\0\1", '"x"']
)
def test_a_damaged_status_counts_as_none(tmp_path, content):
    do(tmp_path)
    (tmp_path / "status.json").write_text(content)
    assert read_status(tmp_path) is None
    assert do(tmp_path) == "read"
    assert read_status(tmp_path)["outcome"] == "skipped"


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_anew(tmp_path):
    def killed(cfg):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_folder(killed, OmegaConf.create(CONFIG), tmp_path, lambda folder: "read")
    assert read_status(tmp_path)["outcome"] == "running"
    assert do(tmp_path, resume=str(tmp_path)) is None
    assert read_status(tmp_path)["outcome"] == "finished"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EMFILE])
def test_what_the_system_refuses_is_an_expected_error(number):
    hidden = RuntimeError("a writer failed")
    hidden.__context__ = OSError(number, "the reason", "file")
    assert "the reason" in str(expected(hidden))
    assert expected(RuntimeError("a bug")) is None


def test_damaged_files_of_a_finished_run_are_named(tmp_path):
    from advfool.commands.run_folder import read_run, whole_config

    config = "model:\n  name: a\ndata:\n  root: b\nseed: 0\ntarget: label\nfooling:\n  name: x\n  row: 3\n"
    settings = {"model.name": "a", "fooling.name": "x", "fooling.row": 3}
    (tmp_path / "status.json").write_text(json.dumps({"outcome": "finished", "settings": settings}))
    (tmp_path / "config.yaml").write_text(config)
    assert whole_config(tmp_path)["fooling"] == {"name": "x", "row": 3}
    for end in range(len(config)):  # wherever it was cut off
        (tmp_path / "config.yaml").write_text(config[:end])
        with pytest.raises(AdvfoolError, match="config.yaml"):
            whole_config(tmp_path)
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "manipulated.safetensors").touch()
    for content in ("", "[]", "{}", '{"fsr": {'):
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(AdvfoolError, match="metrics.json is damaged"):
            read_run(tmp_path)


def test_what_is_only_found_with_the_network_is_no_obstacle():
    from hydra import compose, initialize_config_dir

    from advfool.commands.resuming import settings_as_json
    from advfool.utilities.config import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", ["model=torchvision", "model.arch=resnet18", "data=imagefolder", "data.root=/photos"])
    cfg.callbacks = cfg.logger = None  # lie in the folder of a command
    cfg.trainer.default_root_dir = "."
    settings = settings_as_json(cfg)
    assert (settings["model.arch"], settings["model.input"]) == ("resnet18", None)
