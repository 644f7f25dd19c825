"""Signals: a command ends with the code of its signal, and no process outlives the one that it works for."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from omegaconf import OmegaConf

from advfool.commands.own_folder import expected, run_in_folder
from advfool.commands.signals import interruptible
from advfool.commands.status import read_status
from advfool.utilities.errors import with_causes
from tests.helpers.command import SMALL

CHILD = """
import time
from advfool.commands.signals import end_with_parent
end_with_parent()
print("up", flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
from advfool.commands.signals import parent_of_others
with parent_of_others():
    child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    print(child.pid, flush=True)
    time.sleep(600)
"""


def runs(pid):
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_the_process_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    assert runs(worker)
    parent.kill()
    parent.wait()
    end = time.time() + 10
    while runs(worker) and time.time() < end:
        time.sleep(0.1)
    assert not runs(worker)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_interrupt_and_are_told_apart(number):
    def receive():
        os.kill(os.getpid(), number)
        time.sleep(5)

    before = signal.getsignal(number)
    with interruptible() as received, pytest.raises(KeyboardInterrupt):
        receive()
    assert received.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_an_error_while_a_library_ends_after_an_interrupt_is_an_interrupt(tmp_path):
    def task(cfg):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("cannot join thread before it is started") from None  # a progress bar, say

    with pytest.raises(KeyboardInterrupt):
        run_in_folder(task, OmegaConf.create({"seed": 0}), tmp_path, str)
    assert read_status(tmp_path)["outcome"] == "running"


def test_errors_that_name_each_other_as_causes_are_looked_at_once():
    first, second = ValueError("first"), KeyError("second")
    first.__context__, second.__context__ = second, first
    assert list(with_causes(first)) == [first, second]
    assert expected(first) is None


def test_a_terminated_run_says_how_it_is_resumed(tmp_path):
    folder = tmp_path / "a run, of=mine"
    command = [sys.executable, "-m", "advfool.train", *SMALL, "trainer.max_steps=1000000", f"hydra.run.dir='{folder}'"]
    process = subprocess.Popen([*command, "trainer.val_check_interval=2"], stderr=subprocess.PIPE, text=True)
    try:
        while not (folder / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        process.terminate()
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    assert "To resume: python -m advfool.train" in errors
    assert f"resume='\"'\"'{folder}'\"'\"''" in errors
