"""From rows to rates, worked out by hand."""

import pytest
import torch

from advfool.evaluation.comparison import Results
from advfool.evaluation.console import print_results
from advfool.evaluation.summary import summarise
from advfool.foolings import Location
from advfool.interpreters import GradCAM
from tests.helpers.networks import build_tiny
from tests.helpers.setups import Classes, make_setup
from tests.helpers.similarity import SIMILARITIES


def images(n=6):
    return {
        "index": torch.arange(n),
        "label": torch.tensor([0, 0, 1, 1, 1, 2]),
        **{f"top1/{x}": torch.tensor([1.0, 1, 1, 1, 0, y]) for x, y in (("original", 1), ("manipulated", 0))},
        **{f"top5/{x}": torch.ones(n) for x in ("original", "manipulated")},
        "agreement": torch.tensor([1.0, 1, 1, 1, 1, 0]),
        "kl": torch.full((n,), 0.5),
    }


def explained(n=5):
    """The fifth map is degenerate (counts, not fooled)."""
    return {name: values[:n] for name, values in images().items()} | {
        "test_loss/gradcam/original": torch.full((n,), 0.5),
        "test_loss/gradcam/manipulated": torch.tensor([0.1, 0.3, 0.2, 0.05, torch.nan]),
        "degenerate/gradcam/original": torch.zeros(n),
        "degenerate/gradcam/manipulated": torch.tensor([0.0, 0, 0, 0, 1]),
        **{f"mass/gradcam/{x}": torch.full((n,), y) for x, y in (("original", 0.6), ("manipulated", 0.1))},
        **{f"pointing/gradcam/{x}": torch.full((n,), y) for x, y in (("original", 1.0), ("manipulated", 0.0))},
        **{f"{name}/gradcam": torch.tensor([0.5, 0.7, torch.nan, 0.6, torch.nan]) for name in SIMILARITIES},
    }


def test_summary_of_a_table_worked_out_by_hand(tmp_path, capsys):
    data = Classes(3)
    data.classes = data.labels = ("a", "b", "c")
    network, layer = build_tiny("resnet_tiny")
    setup = make_setup(network, GradCAM(layer, name="gradcam"), Location(name="location"), data)
    result = summarise(Results(explained(), images()), setup)
    assert result["accuracy"]["original"]["top1"] == pytest.approx(5 / 6)
    assert result["accuracy"]["manipulated"]["top1"] == pytest.approx(4 / 6)
    assert result["accuracy"]["drop"]["top1"] == pytest.approx(1 / 6)
    assert result["accuracy"]["error_ratio"] == 2
    assert (result["accuracy"]["verdict"], result["accuracy"]["margin"]) == ("not shown", 0.01)
    low, high = result["ci95"]["accuracy"]["error_ratio"]
    assert low < 2 < high
    assert result["agreement"] == pytest.approx(5 / 6)
    assert result["kl"] == pytest.approx(0.5)
    assert (result["n_images"], result["n_images_fsr"]) == (6, 5)
    assert result["fsr"]["gradcam"] == pytest.approx(3 / 5)
    assert result["fsr_before"]["gradcam"] == 0
    assert result["fsr_by_class"]["gradcam"] == {"a": 0.5, "b": pytest.approx(2 / 3)}
    assert result["degenerate_by_class"]["gradcam"] == {"a": 0, "b": pytest.approx(1 / 3)}
    assert result["degenerate"]["gradcam"] == pytest.approx(1 / 5)
    assert result["test_loss"]["gradcam"]["manipulated"] == pytest.approx((0.1 + 0.3 + 0.2 + 0.05) / 4)
    assert result["spearman"]["gradcam"] == pytest.approx(0.6)
    assert result["box"]["gradcam"]["manipulated"] == {"pointing": 0, "mass": pytest.approx(0.1)}
    low, high = result["ci95"]["fsr"]["gradcam"]
    assert 0 <= low < 0.6 < high <= 1
    assert result["ci95"]["kl"] == pytest.approx([0.5, 0.5])
    assert (result["evaluate_with"], result["fooling"], result["interval"]) == (["gradcam"], "location", [0, 0.2])
    run = {"model": "m", "interp": "gradcam", "fooling": "location", "steps": 1, "train_seconds": 2.0}
    print_results(result | run, tmp_path)
    printed = capsys.readouterr().out
    for text in (
        "60.0 %",
        "83.3 %",
        "Top-1 drop 16.67 points",
        "Least fooled class: a (FSR 50.0 %)",
        "Accuracy not shown",
    ):
        assert text in printed


def test_intervals_draw_sources_and_a_rate_of_one_has_a_width(tmp_path):
    data = Classes(3)
    network, layer = build_tiny("resnet_tiny")
    setup = make_setup(network, GradCAM(layer, name="gradcam"), Location(name="location"), data)
    alone = summarise(Results(explained(), images()), setup)["ci95"]
    related = images() | {"source": torch.tensor([4, 4, 7, 7, 7, 9])}
    found = summarise(Results(explained(), related), setup)["ci95"]
    assert found["accuracy"]["original"]["top5"] == pytest.approx([1 - (1 - 0.05 ** (1 / 3)), 1])
    assert alone["accuracy"]["original"]["top5"] == pytest.approx([1 - (1 - 0.05 ** (1 / 6)), 1])
    assert found["fsr"] == alone["fsr"]
    assert found["agreement"] != alone["agreement"]
    nothing = related | {"source": torch.zeros(6).long()}
    metrics = summarise(Results(explained(), nothing), setup)
    assert metrics["accuracy"]["drop"]["ci95"] is None
    assert metrics["ci95"]["agreement"] is None
