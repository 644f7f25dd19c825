import pytest
import torch

from advfool.evaluation import _once_each, _stack, summarise
from advfool.foolings import Location
from advfool.metrics.functional import paired_interval, top_k_correct
from advfool.table import print_results


def table(n=6):
    return {
        "index": torch.arange(n),
        "label": torch.tensor([0, 0, 1, 1, 1, 2]),
        **{f"top1/{x}": torch.tensor([1.0, 1, 1, 1, 0, y]) for x, y in (("original", 1), ("manipulated", 0))},
        **{f"top5/{x}": torch.ones(n) for x in ("original", "manipulated")},
        "test_loss/gradcam/original": torch.full((n,), 0.5),
        "test_loss/gradcam/manipulated": torch.tensor([0.1, 0.3, 0.2, 0.05, torch.nan, torch.nan]),
        "degenerate/gradcam/original": torch.tensor([0.0, 0, 0, 0, 0, torch.nan]),
        "degenerate/gradcam/manipulated": torch.tensor([0.0, 0, 0, 0, 1, torch.nan]),
        "mass/gradcam/original": torch.full((n,), 0.6),
        "mass/gradcam/manipulated": torch.full((n,), 0.1),
        "pointing/gradcam/original": torch.ones(n),
        "pointing/gradcam/manipulated": torch.zeros(n),
    }


def test_summary_of_a_table_worked_out_by_hand(tmp_path, capsys):
    """The fifth map is degenerate (counts, not fooled); the sixth image was measured for accuracy only."""
    result = summarise(table(), ["gradcam"], Location(), ("a", "b", "c"))
    assert result["accuracy"]["original"]["top1"] == pytest.approx(5 / 6)
    assert result["accuracy"]["manipulated"]["top1"] == pytest.approx(4 / 6)
    assert result["accuracy"]["drop"]["top1"] == pytest.approx(1 / 6)
    assert (result["n_images"], result["n_images_fsr"]) == (6, 5)
    assert result["fsr"]["gradcam"] == pytest.approx(3 / 5)
    assert result["fsr_before"]["gradcam"] == 0
    assert result["fsr_by_class"]["gradcam"] == {"a": 0.5, "b": pytest.approx(2 / 3)}
    assert result["degenerate"]["gradcam"] == pytest.approx(1 / 5)
    assert result["test_loss"]["gradcam"]["manipulated"] == pytest.approx((0.1 + 0.3 + 0.2 + 0.05) / 4)
    assert result["box"]["gradcam"]["manipulated"] == {"pointing": 0, "mass": pytest.approx(0.1)}
    run = {"model": "m", "interp": "gradcam", "fooling": "location", "steps": 1, "train_seconds": 2.0}
    print_results(result | run, tmp_path)
    printed = capsys.readouterr().out
    for text in ("60.0 %", "83.3 %", "Top-1 drop 16.67 points", "Least fooled class: a (FSR 50.0 %)"):
        assert text in printed


def test_repeated_images_count_once():
    rows = {"index": torch.tensor([2, 0, 1, 0, 2]), "x": torch.tensor([12.0, 10, 11, 10, 12])}
    assert _once_each(rows)["x"].tolist() == [10, 11, 12]


def test_columns_a_batch_lacks_are_nan():
    rows = _stack([{"index": torch.tensor([0]), "x": torch.tensor([1.0])}, {"index": torch.tensor([1])}])
    assert rows["x"][0] == 1
    assert rows["x"][1].isnan()


def test_paired_interval_against_scipy():
    from scipy.stats import norm

    before, after = torch.randint(2, (2, 500)).float()
    mean, (low, high) = paired_interval(before, after)
    difference = (before - after).double().numpy()
    expected = norm.interval(0.95, difference.mean(), difference.std(ddof=1) / 500**0.5)
    assert mean == pytest.approx(difference.mean())
    assert (low, high) == pytest.approx(expected, abs=1e-5)
    assert paired_interval(before[:1], after[:1])[1] is None


def test_top_k_with_fewer_classes_than_k():
    logits = torch.tensor([[0.1, 0.5, 0.2]])
    assert top_k_correct(logits, torch.tensor([0]), 5).tolist() == [True]
    assert top_k_correct(logits, torch.tensor([2]), 1).tolist() == [False]
    assert top_k_correct(logits, torch.tensor([2]), 2).tolist() == [True]
