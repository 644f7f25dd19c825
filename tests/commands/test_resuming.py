"""A run is resumed with its own settings alone, anywhere, from the last checkpoint that is whole."""

import shutil
from dataclasses import replace
from math import nan
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch

from advfool.commands.resuming import check_network, find_interrupted
from advfool.commands.status import read_status
from advfool.models import ResNetTiny
from advfool.training.history import read_history
from tests.helpers.callbacks import INTERRUPT
from tests.helpers.command import SMALL, metrics_of, run, weights_of, without_times

OPTIONS = [*SMALL, "trainer.max_steps=11", "trainer.val_check_interval=3", "pictures=0", "evaluate_with=[]"]
OPTIONS += ["data.limit_train=192", "trainer.log_every_n_steps=1", "fool_weight=2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder, *OPTIONS).returncode == 0
    return folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that was interrupted at step 8 and then moved."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERRUPT_AT", "8")
        assert run(folder, *OPTIONS, INTERRUPT).returncode == 130
    return folder.rename(folder.parent / "moved, to=here")


def assert_same(one, other):
    assert without_times(metrics_of(one)) == without_times(metrics_of(other))
    for (name, value), again in zip(weights_of(one).items(), weights_of(other).values(), strict=True):
        assert torch.equal(value, again), name


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def replace_by_a_list(path):
    torch.save([1, 2], path)


@pytest.mark.parametrize("damage", [None, flip_a_byte])
def test_resumed_elsewhere_the_weights_are_those_of_an_uninterrupted_run(tmp_path, whole, interrupted, damage):
    source = tmp_path / "source, moved"
    shutil.copytree(interrupted, source)
    if damage:
        damage(source / "checkpoints" / "last.ckpt")
    (source / "checkpoints" / "best.ckpt").unlink()  # the last checkpoint holds the best weights, too
    result = run(tmp_path / "other", *OPTIONS, f"resume={source}")
    assert result.returncode == 0, result.stderr
    assert_same(whole, tmp_path / "other")
    assert (tmp_path / "other" / "metrics.0.csv").exists()  # it did not start anew
    steps = [read_history(folder)["train/loss"][0].tolist() for folder in (whole, tmp_path / "other")]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("damage", [cut_off, empty, flip_a_byte, replace_by_a_list])
def test_of_damaged_checkpoints_the_one_before_is_taken_or_none(tmp_path, interrupted, damage, caplog):
    from advfool.commands.resuming import find_interrupted
    from advfool.commands.status import read_status

    settings = read_status(interrupted)["settings"]
    shutil.copytree(interrupted, tmp_path / "run")
    last, before = (tmp_path / "run" / "checkpoints" / name for name in ("last.ckpt", "last.previous.ckpt"))
    assert find_interrupted(str(tmp_path / "run"), settings).path == last
    damage(last)
    assert find_interrupted(str(tmp_path / "run"), settings).path == before
    assert f"'{last}' is damaged" in caplog.text
    damage(before)
    assert find_interrupted(str(tmp_path / "run"), settings) is None
    assert "starts anew" in caplog.text


def test_a_run_killed_while_it_was_evaluated_ends_the_same(tmp_path, whole, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for name in ("metrics.json", "manipulated.safetensors"):
        (folder / name).unlink()
    status = (folder / "status.json").read_text().replace('"finished"', '"running"')
    (folder / "status.json").write_text(status)
    assert run(folder, *OPTIONS).returncode == 0
    assert_same(whole, folder)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lr=0.5"], "has other settings: optimizer.lr 0.001 -> 0.5; "),
        (["trainer.max_steps=12"], "trainer.max_steps 11 -> 12"),
        (["model=vgg_tiny"], "model.name resnet_tiny -> vgg_tiny"),
        (["resume=/nowhere"], "resume=/nowhere: expected the folder of an interrupted run, found no such folder."),
    ],
)
def test_other_settings_are_refused_with_the_differences(tmp_path, interrupted, overrides, message):
    options = [f"resume={interrupted}", *OPTIONS, *overrides]
    result = run(tmp_path / "run", *(options if overrides[0][:6] != "resume" else options[1:]))
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_settings_are_compared_with_the_checkpoint_where_the_status_is_damaged(tmp_path, interrupted):
    shutil.copytree(interrupted, tmp_path / "source")
    (tmp_path / "source" / "status.json").write_text("[1]")
    result = run(tmp_path / "run", *OPTIONS, "optimizer.lr=0.5", f"resume={tmp_path / 'source'}")
    assert result.returncode == 1
    assert "optimizer.lr 0.001 -> 0.5" in result.stderr


def test_another_machine_is_told_of(tmp_path, interrupted, caplog):
    found = find_interrupted(str(interrupted), read_status(interrupted)["settings"])
    check_network(found, ResNetTiny(10), found.machine | {"threads": 64})
    assert f"last digits may differ: threads {found.machine['threads']} -> 64." in caplog.text


def changed(path, change):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def packed(path):
    """Pack a checkpoint, as one that holds gigabytes of zeros would be."""
    with ZipFile(path) as parts:
        contents = {part.filename: parts.read(part) for part in parts.infolist()}
    with ZipFile(path, "w", ZIP_DEFLATED) as parts:
        for name, content in contents.items():
            parts.writestr(name, content)


DAMAGED = {
    "packed": packed,
    "weights by number": lambda path: changed(path, lambda content: content.update(state_dict={3: torch.zeros(1)})),
    "weights that are texts": lambda path: changed(path, lambda content: content["state_dict"].update(a="b")),
    "weights without values": lambda path: changed(
        path, lambda content: content["state_dict"].update(a=torch.zeros(1, device="meta"))
    ),
    "callbacks": lambda path: changed(path, lambda content: content.update(callbacks=5)),
    "lr": lambda path: changed(
        path, lambda content: content["optimizer_states"][0]["param_groups"][0].update(lr=float("nan"))
    ),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_checkpoint_with_a_content_of_another_kind_counts_as_damaged(tmp_path, interrupted, damage):
    source = tmp_path / "source"
    shutil.copytree(interrupted, source)
    damage(source / "checkpoints" / "last.ckpt")
    found = find_interrupted(str(source), read_status(interrupted)["settings"])
    assert found.path.name == "last.previous.ckpt"


UNFIT = {
    "loops": lambda content: content["loops"]["fit_loop"].update({"epoch_progress": "x"}),
    "version": lambda content: content.update({"pytorch-lightning_version": "abc"}),
    "optimizer": lambda content: content.update(optimizer_states=[1]),
    "rate": lambda content: content["optimizer_states"][0]["param_groups"][0].update(lr="x"),
    "schedule": lambda content: content.update(lr_schedulers=[{"get_lr": 2, "step": 1}]),
    "progress": lambda content: content["lr_schedulers"][0].update(last_epoch=10**9),
}


@pytest.mark.parametrize("change", UNFIT.values(), ids=UNFIT)
def test_a_checkpoint_that_cannot_be_restored_is_an_expected_error(tmp_path, interrupted, change):
    source = tmp_path / "source"
    shutil.copytree(interrupted, source)
    changed(source / "checkpoints" / "last.ckpt", change)
    result = run(tmp_path / "run", *OPTIONS, f"resume='{source}'")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "its content does not fit" in result.stderr
    assert read_status(tmp_path / "run")["outcome"] == "failed"


def test_weights_that_are_no_numbers_are_not_resumed(tmp_path, interrupted):
    source = tmp_path / "source"
    shutil.copytree(interrupted, source)
    changed(source / "checkpoints" / "last.ckpt", lambda content: content["state_dict"]["network.fc.bias"].fill_(nan))
    result = run(tmp_path / "run", *OPTIONS, f"resume='{source}'")
    assert result.returncode == 1
    assert "'fc.bias' has 10 of 10 values that are NaN or infinite" in result.stderr


def test_another_machine_of_a_stranger_commands_no_terminal(interrupted, caplog):
    found = find_interrupted(str(interrupted), read_status(interrupted)["settings"])
    check_network(replace(found, machine={"device": "\x1b]0;title\x07"}), ResNetTiny(10), found.machine)
    assert "\x1b" not in caplog.text
