"""The report's rows of results."""

import pytest

from advfool.reporting.rows import columns_of, matched
from tests.helpers.fake_runs import BROKEN, INTERPS


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
