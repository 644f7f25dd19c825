"""What TensorBoard would show, read back from the files that a run has recorded for it."""

import pytest

from tests.helpers.command import metrics_of, run
from tests.helpers.dashboards import LOOKS, PICTURES, SHORT, STEPS, TINY


def test_tensorboard_shows_the_same(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run(tmp_path, *TINY, *SHORT, "logger=tensorboard")
    assert result.returncode == 0, result.stderr
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars, metrics = shown.Tags()["scalars"], metrics_of(tmp_path)
    assert STEPS | LOOKS | {"test/fsr/gradcam", "test/fsr/lrp_t"} <= set(scalars)
    assert [event.step for event in shown.Scalars("train/loss")] == list(range(6))
    assert len(shown.Scalars("val/top1")) == 4
    assert shown.Scalars("test/fsr/gradcam")[-1].value == pytest.approx(metrics["fsr"]["gradcam"], abs=1e-6)
    assert set(shown.Tags()["images"]) == PICTURES
    assert [event.step for event in shown.Images("pictures/snapshots")] == [0, 2, 4, 6]
    (picture,) = shown.Images("pictures/heatmaps")
    assert (picture.step, picture.height > 100) == (6, True)
