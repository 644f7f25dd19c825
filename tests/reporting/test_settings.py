"""Which runs have the same setting: one definition, for runs and for the rows of a report."""

from advfool.reporting.rows import result_rows
from advfool.reporting.settings import Setting, of_usual_setting
from tests.helpers.runs import a_run


def test_a_run_and_its_rows_have_the_same_setting():
    run = a_run()
    assert run.setting == Setting(4, 1e-3, 600, "label", "advfool.data.DigitsModule", 32)
    assert {Setting.of_row(row) for row in result_rows([run])} == {run.setting}


def test_the_seed_is_no_part_of_the_setting_and_everything_else_is():
    assert a_run(seed=0).setting == a_run(seed=1).setting
    for change in (
        {"fool_weight": 5},
        {"optimizer": {"lr": 1}},
        {"trainer": {"max_steps": 1}},
        {"target": "predicted"},
        {"data": {"_target_": "advfool.data.DigitsModule", "batch_size": 64}},
        {"data": {"_target_": "other", "batch_size": 32}},
    ):
        assert a_run(**change).setting != a_run().setting


def test_damaged_values_are_not_known():
    assert Setting.of_config({"fool_weight": "${x}", "optimizer": None}) == Setting()


def test_the_most_frequent_setting_of_each_group_is_used():
    found = [("a", Setting(1)), ("a", Setting(2)), ("a", Setting(2)), ("b", Setting(1))]
    assert of_usual_setting(found, lambda item: item[0], lambda item: item[1]) == found[1:]
