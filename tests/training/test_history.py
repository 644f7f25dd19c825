"""The history of a training: damaged rows cost their values, no more."""

import pytest

from advfool.training.history import read_history, set_history_aside


@pytest.mark.parametrize(
    "damage", ["\0\0\0\0", "2,abc", "xyz,1", "-1,1", "nan,1", "1e300,1", "9" * 5000 + ",1", "3", ",", "2,1,5", "4,"]
)
def test_a_damaged_row_of_the_history_is_left_out(tmp_path, damage):
    (tmp_path / "metrics.csv").write_text(f"step,train/loss\n1,0.5\n{damage}\n6,0.25\n")
    steps, values = read_history(tmp_path)["train/loss"]
    assert steps.tolist() == [1, 6]
    assert values.tolist() == [0.5, 0.25]


def test_a_history_that_is_set_aside_replaces_no_earlier_one(tmp_path):
    (tmp_path / "metrics.1.csv").write_text("step,a\n1,1\n")
    (tmp_path / "metrics.csv").write_text("step,a\n2,2\n")
    set_history_aside(tmp_path, tmp_path)
    assert read_history(tmp_path)["a"][0].tolist() == [1, 2]
    assert (tmp_path / "metrics.1.csv").read_text() == "step,a\n1,1\n"
