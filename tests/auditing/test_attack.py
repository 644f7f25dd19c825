"""One attack: which weights are kept, when it ends, and that a validation follows the last step."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn

from advfool.auditing.attack import attacked_by, attempt, choose_trained
from advfool.auditing.suite import AuditSettings, Trial, explained_top
from advfool.auditing.watch import Watch
from advfool.interpreters import GradCAM
from advfool.library.audit import suite_of
from advfool.training.module import FoolingModule
from advfool.training.multiplier import Budget
from advfool.training.optimizers import Plateau
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup


class Stub(Trainer):
    """A trainer that only says where it is."""

    callback_metrics, global_step, max_steps, should_stop = {}, 0, 0, False
    optimizers, lr_scheduler_configs = (), ()

    def __init__(self, steps, schedule):
        self.max_steps, self.optimizers = steps, [schedule.optimizer]
        self.lr_scheduler_configs = [SimpleNamespace(scheduler=schedule)]


class Seen:
    """A training whose validations find what a test says."""

    def __init__(self, watch, steps=100):
        self.watch, self.network = watch, nn.Linear(1, 1)
        self.original = nn.Linear(1, 1)
        nn.init.zeros_(self.original.weight)
        self.schedule = Plateau(torch.optim.Adam(self.network.parameters()), steps)
        self.trainer = Stub(steps, self.schedule)

    def validate(self, step, fsr, price, loss=0.5, degenerate=0.0):
        module = FoolingModule.__new__(FoolingModule)
        nn.Module.__init__(module)
        module.network, module.interpreter, module.multiplier = self.network, SimpleNamespace(name="it"), None
        object.__setattr__(module, "original", self.original)
        module.settings = SimpleNamespace(budget=Budget(0.01), first_weight=1.0)
        with torch.no_grad():
            self.network.weight.fill_(step)
        found = {"val/fsr/it": fsr, "val/test_loss/it": loss, "val/price": price, "val/fool_weight": 1.0}
        found["val/degenerate/it"] = degenerate
        self.trainer.callback_metrics = {key: torch.tensor(value) for key, value in found.items()}
        self.trainer.global_step = step
        self.watch.on_validation_end(self.trainer, module)
        return self.trainer.should_stop

    def kept(self, budget):
        return self.watch.best[budget][1]["weight"].item()


@pytest.fixture
def seen():
    return Seen(Watch([0.01, 0.02], 0.01, (0.0, 0.2)))


def test_each_budget_keeps_the_most_fooled_weights_that_it_pays_for(seen):
    seen.validate(0, 0.0, 0.0)
    seen.validate(10, 0.5, 0.9)
    seen.validate(20, 0.8, 1.6)
    seen.validate(30, 0.9, 2.4)
    assert (seen.kept(0.01), seen.kept(0.02)) == (10, 20)


def test_of_equally_fooled_weights_the_cheap_ones_whose_maps_moved_furthest_are_kept(seen):
    seen.validate(0, 0.0, 0.0, 0.5)
    for step, price, loss, kept in ((10, 1.0, 0.1, 10), (20, 0.7, 0.2, 20), (30, 0.4, 0.15, 30), (40, 0.2, 0.2, 30),
                                    (50, 0.5, 0.05, 50), (60, 0.9, 0.0, 50), (70, 0.1, math.nan, 50)):  # fmt: skip
        seen.validate(step, 0.98, price, loss)
        assert seen.kept(0.01) == kept


def test_an_attack_that_has_won_ends(seen):
    for step in (10, 20, 30):
        assert not seen.validate(step, 1.0, 0.2)
    assert seen.validate(40, 1.0, 0.2)


@pytest.mark.parametrize("before", [0.0, 0.03, 0.4])
def test_an_attack_that_changes_nothing_ends_however_many_are_fooled_without_it(seen, before):
    seen.validate(0, before, 0.0)
    assert not seen.validate(40, before + 0.004, 0.1)
    assert seen.validate(50, before, 0.1)
    assert seen.watch.outcome == "stopped: nothing is fooled"


def test_maps_that_have_begun_to_turn_are_not_given_up(seen):
    seen.validate(0, 0.0, 0.0, 0.5)
    assert not seen.validate(50, 0.0, 0.1, 0.4)
    assert seen.validate(60, 0.0, 0.1, math.nan)


def test_maps_that_have_become_degenerate_end_an_attack(seen):
    seen.validate(0, 0.0, 0.0)
    assert not seen.validate(10, 0.1, 0.1, 0.3, degenerate=0.3)
    assert seen.validate(20, 0.0, 0.1, math.nan, degenerate=1.0)
    assert "degenerate" in seen.watch.outcome


def test_a_rate_that_destroys_the_classifier_at_once_is_divided_and_the_attack_begins_anew(seen):
    seen.validate(0, 0.0, 0.0)
    for step, price, scale in ((10, 30.0, 0.25), (20, 6.0, 0.0625), (30, 2.0, 0.0625), (40, 30.0, 0.0625)):
        seen.validate(step, 0.5, price)
        assert seen.schedule.scale == scale
        assert (seen.network.weight.item() == 0.0) == (step < 30)


def test_an_attack_far_behind_an_earlier_one_ends_halfway():
    seen = Seen(Watch([0.01], 0.01, (0.0, 0.2), rival=0.9))
    seen.validate(0, 0.0, 0.0)
    assert not seen.validate(40, 0.3, 0.1, 0.3)
    assert seen.validate(50, 0.4, 0.1, 0.3)
    assert "far ahead" in seen.watch.outcome


@pytest.mark.parametrize("steps", [1, 29, 40, 100, 301, 600])
def test_the_last_validation_follows_the_last_step(steps):
    trial = Trial("location", 1.0, steps)
    assert trial.validations >= 1
    assert steps - trial.validations < trial.validations * trial.every <= steps


def test_maps_of_more_classes_are_trained_where_there_are_more():
    assert [explained_top(classes) for classes in (2, 3, 10, 1000)] == [2, 2, 2, 5]


@pytest.mark.parametrize(("part", "trained"), [(1.0, 4), (0.8, 2), (0.01, 1), (0.92, 3)])
def test_the_last_parameters_are_trained_until_there_are_enough(part, trained):
    network = nn.Sequential(nn.Linear(4, 2), nn.Linear(9, 10))  # 8 + 2 + 90 + 10 values
    choose_trained(network, part)
    flags = [parameter.requires_grad for parameter in network.parameters()]
    assert flags == [False] * (4 - trained) + [True] * trained


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", AuditSettings().attacks)
def test_every_attack_of_the_suite_can_be_tried(name):
    network, layer = build_tiny("vgg_tiny", torch.float32)
    before = copy.deepcopy(network.state_dict())
    settings = AuditSettings(top1=0.5, steps=2, batch_size=4, accelerator="cpu")
    fooling = suite_of(settings)[name]
    data = RandomData(counts=(80, 8, 40))
    data.pair = (0, 1)
    setup = attacked_by(make_setup(network, GradCAM(layer, name="gradcam"), fooling, data, seed=0), fooling)
    found = attempt(setup, Trial(name, 8.0, 2), settings, False)
    assert not found.outcome.startswith("failed")
    assert found.visits[-1].step == 2
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
