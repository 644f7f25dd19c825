"""The report's rows of results."""

import pytest

from advfool.reporting.headline import headline
from advfool.reporting.rows import columns_of, matched, result_rows
from advfool.reporting.runs import find_runs
from advfool.reporting.transfer import transfers
from advfool.reporting.writing import write_all
from tests.helpers.fake_runs import BROKEN, INTERPS, fake_metrics, fake_run, with_nulls


def test_there_is_a_row_for_each_run_and_interpreter(rows):
    assert len(rows) == 8 * len(INTERPS)
    row = next(row for row in rows if row["run"] == "a")
    assert (row["state"], row["model"]) == ("finished", "resnet_tiny")
    assert (row["fooling"], row["interp"]) == ("location", "gradcam")
    assert (row["seed"], row["fool_weight"], row["lr"], row["max_steps"], row["steps"]) == (0, 4, 0.001, 60, 60)
    assert (row["target"], row["data"], row["batch_size"]) == ("label", "advfool.data.DigitsModule", 64)
    assert (row["fsr"], row["fsr_low"], row["fsr_high"]) == pytest.approx((0.9, 0.85, 0.95))
    assert (row["accuracy_drop_top1"], row["accuracy_drop_top1_low"]) == pytest.approx((0.01, 0.008))
    assert row["test_loss_manipulated"] == 0.3
    assert not any("by_class" in name or name.startswith("interval") for name in row)


def test_active_fooling_has_both_classes_and_their_mean(rows):
    row = next(row for row in matched(rows) if row["run"] == "e")
    assert (row["fsr_c1"], row["fsr_c2"], row["fsr"]) == pytest.approx((0.6, 0.3, 0.45))
    assert row["accuracy_original_c1"] == 0.9
    assert "accuracy_original" not in row


def test_half_finished_runs_have_rows_without_numbers(rows):
    for name, state in ((BROKEN, "unfinished"), ("failed", "failed")):
        own = [row for row in rows if row["run"] == name]
        assert [row["evaluated_with"] for row in own] == list(INTERPS)
        assert {row["state"] for row in own} == {state}
        assert all(row.get("fsr") is None for row in own)
    assert "Lower optimizer.lr" in own[0]["error"]


def test_a_key_with_several_quantities_and_interpreters_has_a_column_for_each_quantity():
    metrics = {"fsr": {"gradcam": 1.0, "lrp": 0.5}, "undefined": {"spearman": {"gradcam": 0.1, "lrp": 0.2}}}
    metrics["ci95"] = {"undefined": {"spearman": {"gradcam": [0.0, 0.3], "lrp": None}}}
    columns = columns_of(metrics, "gradcam")
    assert columns["undefined_spearman"] == 0.1
    assert columns["undefined_spearman_high"] == 0.3
    assert not any("lrp" in name for name in columns)


def test_what_stands_beside_an_fsr_has_columns_and_runs_without_it_have_none():
    metrics = with_nulls(fake_metrics({"gradcam": 0.9, "lrp": 0.1}, 0.01, False, "3"), 0.4, 0.2)
    columns = columns_of(metrics, "lrp")
    assert (columns["fsr_null"], columns["fsr_null_control"]) == (0.2, "blurred")
    assert (columns["deceptive_rate"], columns["n_deceptive"]) == (0.4, 20)
    assert (columns["deceptive_rate_low"], columns["deceptive_rate_high"]) == pytest.approx((0.35, 0.45))
    assert (columns["misdirected_rate"], columns["n_misdirected"]) == (0.1, 25)
    assert columns["nulls_blurred_deceptive_rate"] == 0.2
    assert columns["faithful_original"] == 0.5
    assert not any("gradcam" in name for name in columns)
    before = columns_of(fake_metrics({"gradcam": 0.9}, 0.01, False, "3"), "gradcam")
    assert not any("null" in name or "deceptive" in name or "gate" in name for name in before)


def test_counts_and_shares_of_tiles_of_both_classes_have_no_mean():
    metrics = with_nulls(fake_metrics({"gradcam": 0.9}, 0.01, True, "3"), 0.4, 0.2)
    columns = columns_of(metrics, "gradcam")
    assert (columns["deceptive_rate"], columns["deceptive_rate_c2"]) == pytest.approx((0.3, 0.2))
    assert (columns["n_deceptive_c1"], columns["n_deceptive_c2"]) == (20, 21)
    assert columns["fsr_null_control"] == "blurred, sharpened_4"
    assert (columns["gate_pointing_both"], columns["gate_pointing_both_low"]) == (0.5, 0.4)
    assert not {"n_deceptive", "gate_pointing"} & columns.keys()


@pytest.mark.parametrize("damaged", [None, "x", 3, [], [1, 2], {"gradcam": "x"}, {"gradcam": None}, {"other": {}}])
def test_damaged_values_beside_an_fsr_cost_only_themselves(damaged):
    metrics = fake_metrics({"gradcam": 0.9}, 0.01, False, "3")
    metrics |= dict.fromkeys(
        ("fsr_null", "fsr_null_control", "deceptive_rate", "n_deceptive", "nulls", "gate"), damaged
    )
    columns = columns_of(metrics, "gradcam")
    assert columns["fsr"] == 0.9
    assert columns.get("fsr_null_control") in (None, "x")


def test_a_run_that_attacks_several_interpreters_is_matched_by_each_and_transfers_to_the_others(tmp_path):
    fake_run(tmp_path / "joint", interp="gradcam", also=["lrp_t"], fsr=0.8)
    (run,) = find_runs(tmp_path)
    rows = result_rows([run])
    assert {row["interp"] for row in rows} == {"gradcam+lrp_t"} == {run.interp}
    assert [row["evaluated_with"] for row in matched(rows)] == ["gradcam", "lrp_t"]
    assert run.matched("fsr") == pytest.approx((0.8 + 0.1) / 2)  # the mean of both
    found = headline(rows)
    assert (found.states["finished"], found.transfer) == (1, pytest.approx(0.1))
    (matrix,) = transfers(rows)
    assert matrix.trained == ("gradcam+lrp_t",)
    assert set(matrix.evaluated) == {"gradcam", "lrp_t", "lrp"}
    assert write_all(tmp_path).is_file()
