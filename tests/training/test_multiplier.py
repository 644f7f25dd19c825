"""The weight of the penalty that follows the price."""

import pytest
import torch
from torch import nn

from advfool.training.multiplier import Budget, Multiplier
from advfool.training.optimizers import Plateau, relative_adam
from advfool.utilities.errors import AdvfoolError


def test_the_price_is_the_larger_share_of_accuracy_and_agreement():
    budget = Budget(0.01)
    assert budget.price(0.005, 0.0) == pytest.approx(0.5)
    assert budget.price(-0.02, 0.03) == pytest.approx(1)
    assert budget.price(0.02, 0.03) == pytest.approx(2)


def test_the_weight_grows_while_it_is_cheap_and_falls_when_it_is_dear():
    multiplier = Multiplier(Budget(0.01))
    multiplier.follow(0.2, 0.0)
    assert multiplier.weight == pytest.approx(multiplier.up)
    multiplier.follow(0.8, 0.1)
    assert multiplier.weight == pytest.approx(multiplier.up)
    multiplier.follow(1.1, 0.1)
    assert multiplier.weight == pytest.approx(multiplier.up * multiplier.down)


def test_slack_ends_before_the_training_does():
    for progress, allowed in ((0.0, True), (0.5, True), (0.95, False)):
        multiplier = Multiplier(Budget(0.01, slack=4))
        multiplier.follow(3.0, progress)
        assert (multiplier.weight == 1) == allowed


def test_the_weight_rises_until_the_maps_are_fooled_and_then_the_classifier_is_repaired():
    multiplier = Multiplier(Budget(0.01, slack=8))
    multiplier.follow(3.0, 0.2, 0.5)
    assert multiplier.weight == pytest.approx(multiplier.up)
    assert not multiplier.fooled
    multiplier.follow(3.0, 0.4, 0.995)
    assert multiplier.fooled
    assert multiplier.weight == pytest.approx(multiplier.up * multiplier.down)
    cheap = Multiplier(Budget(0.01, slack=8), fooled=True)
    cheap.follow(0.4, 0.9, 0.99)
    assert cheap.weight == 1


def test_the_repair_begins_whether_or_not_anything_is_fooled():
    multiplier = Multiplier(Budget(0.01, slack=8))
    multiplier.follow(3.0, 0.7, 0.0)
    assert multiplier.fooled
    assert multiplier.allowance(0.9) == 1


def test_every_tensor_moves_by_a_share_of_its_size():
    large, small = nn.Parameter(10 * torch.ones(5)), nn.Parameter(torch.full((3,), 0.1))
    optimizer = relative_adam([large, small], 0.01)
    (large.sum() + small.sum()).backward()
    optimizer.step()
    torch.testing.assert_close(large.detach(), torch.full((5,), 9.9))
    torch.testing.assert_close(small.detach(), torch.full((3,), 0.099))


def test_the_schedule_rises_stays_and_falls_to_nothing():
    optimizer = relative_adam([nn.Parameter(torch.ones(2))], 0.01)
    schedule, seen = Plateau(optimizer, 100), []
    for _ in range(100):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen[0] < seen[10] == seen[50] == pytest.approx(0.01)
    assert seen[-1] < 0.001


def test_the_schedule_falls_to_nothing_from_where_it_is_told_to():
    optimizer = relative_adam([nn.Parameter(torch.ones(2))], 0.01)
    schedule, seen = Plateau(optimizer, 100), []
    for step in range(100):
        if step in (20, 40):
            schedule.fall()
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen[20] == pytest.approx(0.01)
    assert seen[60] == pytest.approx(0.005)
    assert seen[-1] < 0.001


def test_budgets_out_of_range_are_refused():
    with pytest.raises(AdvfoolError, match="top1 must be"):
        Budget(1.5)
    with pytest.raises(AdvfoolError, match="slack must be"):
        Budget(0.01, slack=0.5)
