"""The numbers that the paper reports."""

import pytest

from advfool.reporting.paper.publish import MAKERS
from advfool.reporting.paper.reported import experiments_dir, reported, reported_value


@pytest.mark.parametrize("name", list(MAKERS))
def test_every_experiment_has_its_published_numbers_and_its_config(name):
    assert "Heo" in reported(name)["source"]
    assert (experiments_dir().parent / "conf" / "experiment" / f"{name}.yaml").is_file()


@pytest.mark.parametrize(
    ("name", "labels", "model", "column", "value"),
    [  # read again in the paper
        ("table1", ("center_mass", "gradcam"), "densenet121", "simplegrad_t", 29.2),
        ("table1", ("topk", "lrp_t"), "resnet50", "gradcam", 46.3),
        ("table2", ("lrp_t", "c2"), "resnet_tiny", "lrp", 24.3),
        ("table3", ("original", "-"), "vgg19", "top1", 72.4),
        ("table3", ("active", "gradcam"), "densenet_tiny", "top5", 90.4),
        ("table5", ("lrp_t",), "vgg19", "c2_top5", 78.0),
        ("table1", ("location", "lrp_t"), "efficientnet_lite0", "gradcam", None),
    ],
)
def test_published_numbers(name, labels, model, column, value):
    assert reported_value(name, labels, model, column) == value
