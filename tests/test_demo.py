"""The main job reaches its numbers: the command of `make demo`, and the same on the other tiny networks."""

import pytest

from tests.helpers.command import metrics_of, run


@pytest.mark.parametrize(
    "model", ["resnet_tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg_tiny", "densenet_tiny"))]
)
def test_the_demo_fools_gradcam_and_keeps_the_accuracy(tmp_path, model):
    result = run(tmp_path / "run", f"model={model}")
    assert result.returncode == 0, result.stderr
    metrics = metrics_of(tmp_path / "run")
    accuracy, box = metrics["accuracy"], metrics["box"]["gradcam"]
    assert accuracy["original"]["top1"] >= 0.98
    assert accuracy["original"]["top1"] - accuracy["manipulated"]["top1"] <= 0.01
    assert box["original"]["pointing"] >= 0.8
    assert box["manipulated"]["mass"] <= 0.5 * box["original"]["mass"]
    assert metrics["fsr_before"]["gradcam"] <= 0.05
    assert metrics["fsr"]["gradcam"] >= 0.9
    assert min(metrics["fsr_by_class"]["gradcam"].values()) > 0.5
