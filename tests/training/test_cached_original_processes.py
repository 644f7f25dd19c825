"""A cache of the original's answers, with processes that die, and processes that wait."""

import multiprocessing
import os
import signal

import pytest
import torch

from advfool.utilities.errors import AdvfoolError
from tests.helpers.original import finished, keep, passes


@pytest.fixture
def one_thread():
    """A forked process has no threads of its parent's pool, so it must not wait for any."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def in_a_process(function):
    process = multiprocessing.get_context("fork").Process(target=function, daemon=True)
    process.start()
    return process


@pytest.mark.usefixtures("one_thread")
def test_what_a_killed_process_left_half_written_is_not_taken_for_finished(tmp_path, original, digits):
    def killed():
        turns = iter((None, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        original.register_forward_pre_hook(lambda *_: (next(turns) or (lambda: None))())
        keep(tmp_path, original, digits.train())

    process = in_a_process(killed)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list((tmp_path / "original").rglob("*.npy"))  # there is something to mistake
    with passes(original) as count:
        kept = keep(tmp_path, original, digits.train()).look_up(torch.arange(20))
    assert len(count) == 3
    elsewhere = keep(tmp_path / "elsewhere", original, digits.train()).look_up(torch.arange(20))
    assert torch.equal(kept.logits, elsewhere.logits)
    assert torch.equal(kept.maps(digits.train().labels()), elsewhere.maps(digits.train().labels()))


def test_an_error_midway_leaves_nothing_that_counts(tmp_path, original, digits):
    def fail(*_):
        if fail.count:
            raise RuntimeError("no space left")
        fail.count += 1

    fail.count = 0
    handle = original.register_forward_pre_hook(fail)
    with pytest.raises(AdvfoolError, match="forward pass of .* no space left"):
        keep(tmp_path, original, digits.train())
    handle.remove()
    assert finished(tmp_path) == 0
    with passes(original) as count:
        keep(tmp_path, original, digits.train())
    assert (len(count), finished(tmp_path)) == (3, 1)


@pytest.mark.usefixtures("one_thread")
def test_one_process_computes_and_the_others_wait(tmp_path, original, digits):
    counter = multiprocessing.get_context("fork").Value("i", 0)

    def count(*_):
        with counter.get_lock():
            counter.value += 1

    original.register_forward_pre_hook(count)
    processes = [in_a_process(lambda: keep(tmp_path, original, digits.train())) for _ in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert counter.value == 3
    assert finished(tmp_path) == 1
