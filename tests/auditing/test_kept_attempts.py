"""Finished attacks of an interrupted audit are read back, and the audit ends as if it had not been interrupted."""

import copy
from dataclasses import replace

import pytest
import torch

from advfool.auditing import protocol
from advfool.auditing.attack import Attempt
from advfool.auditing.kept_attempts import KeptAttempts
from advfool.auditing.protocol import run_audit
from advfool.auditing.suite import AuditSettings, Trial
from advfool.auditing.watch import Visit
from advfool.foolings import Location
from advfool.interpreters import GradCAM
from advfool.library.audit import suite_of
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup

TRIAL = Trial("location", 1.0, 30, free_layer="fc")


@pytest.fixture(scope="module")
def network():
    return build_tiny("resnet_tiny", torch.float32)


@pytest.fixture
def attempt(network):
    other = copy.deepcopy(network[0]).to(memory_format=torch.channels_last)
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    state, dear = other.state_dict(), {name: value + 1 for name, value in other.state_dict().items()}
    visits = [Visit(10, 0.1, 1 / 3, 0.1, 0.2), Visit(20, 0.7, 2.0, 1.6)]
    return Attempt(TRIAL, other, {"fsr": 0.7}, visits, {0.01: state, 0.02: state, 0.04: dear}, "ran to its end", 3.5)


def kept(folder, network, key="key"):
    return KeptAttempts(folder, key, network, 0.01)


def test_an_attack_is_read_as_it_was_written(tmp_path, network, attempt):
    kept(tmp_path, network[0]).save("a/b", 1, attempt)
    found = kept(tmp_path, network[0]).load("a/b", 1, TRIAL)
    assert replace(found, network=None, best={}) == replace(attempt, network=None, best={})
    assert found.best.keys() == attempt.best.keys()
    for budget, state in attempt.best.items():
        assert all(torch.equal(value, found.best[budget][name]) for name, value in state.items())
    expected = attempt.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.network.state_dict().items())


def test_an_attack_without_weights_is_kept_as_well(tmp_path, network, attempt):
    nothing = replace(attempt, network=None, best={}, selection={})
    kept(tmp_path, network[0]).save("a", 2, nothing)
    assert kept(tmp_path, network[0]).load("a", 2, TRIAL) == nothing


def test_what_belongs_to_something_else_or_is_damaged_is_done_again(tmp_path, network, attempt):
    ours = kept(tmp_path, network[0])
    ours.save("a", 1, attempt)
    assert kept(tmp_path, network[0], "another").load("a", 1, TRIAL) is None
    assert ours.load("a", 1, replace(TRIAL, steps=31)) is None
    assert ours.load("a", 2, TRIAL) is None
    next(tmp_path.glob("*.safetensors")).write_bytes(b"damaged")
    assert ours.load("a", 1, TRIAL) is None


@pytest.mark.filterwarnings("ignore")
def test_an_audit_that_is_interrupted_in_an_attack_ends_as_if_it_had_not_been(tmp_path, network, monkeypatch):
    setup = make_setup(network[0], GradCAM(network[1], name="gradcam"), Location(), RandomData(), seed=0)
    settings = AuditSettings(top1=0.5, steps=2, trials=4, batch_size=4, selection_images=4, accelerator="cpu")
    monkeypatch.setattr("advfool.auditing.honesty.Honesty.verdict", lambda self: None)
    true, done = protocol.attempt, []

    def interrupted(*args, **kwargs):
        if done:
            raise KeyboardInterrupt
        done.append(true(*args, **kwargs))
        return done[0]

    def whole(**kwargs):
        record = run_audit(setup, settings, suite_of(settings), {}, **kwargs).record["interpreters"]["gradcam"]
        record["trials"] = [trial | {"seconds": 0} for trial in record["trials"]]
        return record | {"seconds": 0}

    expected = whole()
    monkeypatch.setattr(protocol, "attempt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        whole(kept=kept(tmp_path, setup.original))
    done.clear()
    assert whole(kept=kept(tmp_path, setup.original)) == expected
    assert len(done) == 1
