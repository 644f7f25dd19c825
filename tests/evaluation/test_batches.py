"""What is measured does not depend on the size of the batches that it is measured in."""

import pytest
import torch
from pytorch_lightning import Trainer

from advfool.data import wrap
from advfool.evaluation.comparison import compare_networks
from advfool.evaluation.setup import AOPCSettings
from advfool.evaluation.summary import summarise
from advfool.foolings import TopK
from advfool.interpreters import LRP, GradCAM, IntegratedGradients, SmoothGrad
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup


def measured(batch_size, fooling, networks, images, labels):
    first, second, layer = networks
    part = (images[:4], labels[:4])
    data = wrap(part, selection=part, test=(images, labels), eval_batch_size=batch_size, classes=10)
    interps = [
        GradCAM(layer, name="gradcam"),
        LRP(layer, name="lrp_t"),
        SmoothGrad(samples=4, name="smoothgrad"),
        IntegratedGradients(steps=4, name="ig"),
    ]
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "inference_mode": False}
    setup = make_setup(first, interps, fooling, data, fsr_images=9, aopc=AOPCSettings(images=6, steps=4, region=8))
    results = compare_networks(setup, second, Trainer(accelerator="cpu", precision="64-true", **options))
    return results, summarise(results, setup)


def numbers(value, key=""):
    """Every number in nested dicts and lists, by its path."""
    if isinstance(value, dict):
        return {path: number for name, each in value.items() for path, number in numbers(each, f"{key}/{name}").items()}
    if isinstance(value, list | tuple):
        return numbers(dict(enumerate(value)), key)
    return {key: value}


def test_metrics_do_not_depend_on_the_evaluation_batch_size():
    first, layer = build_tiny("resnet_tiny")
    second, _ = build_tiny("resnet_tiny")
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    images, labels = torch.randn(11, 3, 56, 56, dtype=torch.float64), torch.arange(11) % 10
    given = (TopK(), (first, second, layer), images, labels)
    (rows, summary), *others = [measured(size, *given) for size in (8, 1, 3)]
    for other_rows, other in others:
        for table, expected in ((other_rows.explained, rows.explained), (other_rows.images, rows.images)):
            assert table.keys() == expected.keys()
            for name, values in table.items():
                torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-6, equal_nan=True, msg=name)
        found, expected = numbers(other), numbers(summary)
        assert found.keys() == expected.keys()
        for key, value in found.items():
            assert value == (pytest.approx(expected[key], abs=1e-6) if isinstance(value, float) else expected[key]), key
