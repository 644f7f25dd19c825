"""Signals: a command ends with the code of its signal, and no process outlives the one that it works for."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from advfool.commands.signals import interruptible
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
