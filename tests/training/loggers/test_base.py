"""The numbers of a finished run that every dashboard shows."""

import json

from advfool.training.loggers.base import scalars


def test_beside_every_fsr_stand_its_null_and_the_deceptive_rate():
    metrics = {
        "fsr": {"gradcam": 0.9, "lrp": {"c1": 0.8, "c2": 0.7}},
        "fsr_null": {"gradcam": 0.2, "lrp": {"c1": 0.1, "c2": 0.0}},
        "fsr_null_control": {"gradcam": "sharpened_16"},
        "deceptive_rate": {"gradcam": 0.5, "lrp": {"c1": None, "c2": 0.25}},
        "selection": {"fsr": {"gradcam": 0.85}, "deceptive_rate": {"gradcam": 0.45}},
        "ci95": {"deceptive_rate": {"gradcam": [0.4, 0.6]}},
    }
    shown = scalars(json.loads(json.dumps(metrics)))
    assert (shown["test/fsr/gradcam"], shown["test/fsr_null/gradcam"]) == (0.9, 0.2)
    assert shown["test/deceptive_rate/gradcam"] == 0.5
    assert (shown["test/fsr_null/lrp/c1"], shown["test/deceptive_rate/lrp/c2"]) == (0.1, 0.25)
    assert shown["test/selection/deceptive_rate/gradcam"] == 0.45
    assert "test/deceptive_rate/lrp/c1" not in shown
    assert all(isinstance(value, float) for value in shown.values())
