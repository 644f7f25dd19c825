"""The paper's figures from made-up numbers: every one can be drawn."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from advfool.evaluation.paired import NETWORKS
from advfool.reporting.paper.adversarial import PHASES, draw_phases
from advfool.reporting.paper.curves import SOURCES, draw_aopc, draw_noise
from advfool.reporting.paper.grids import active_grid, passive_grid
from advfool.reporting.paper.iterations import by_iteration, draw_iterations
from advfool.reporting.runs import find_runs
from tests.helpers.fake_runs import fake_run


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "figure.png"
    yield found
    with Image.open(found) as picture:
        assert np.asarray(picture).std() > 1


def test_passive_grid(tmp_path, path):
    fake_run(tmp_path / "a", fooling="location", interp="gradcam")
    fake_run(tmp_path / "b", fooling="topk", interp="lrp_t")
    passive_grid(path, find_runs(tmp_path))


def test_active_grid(tmp_path, path):
    fake_run(tmp_path / "a", fooling="active", interp="gradcam")
    active_grid(path, find_runs(tmp_path))


def test_iterations(tmp_path, path):
    fake_run(tmp_path / "a")
    snapshots = {
        "steps": torch.arange(12),
        "maps/gradcam": torch.rand(12, 2, 7, 7),
        "maps/lrp": torch.randn(12, 2, 56, 56),
    }
    snapshots |= {f"test_loss/{interp}": torch.rand(12, 2) for interp in ("gradcam", "lrp")}
    save_file(snapshots, tmp_path / "a" / "snapshots.safetensors")
    (run,) = find_runs(tmp_path)
    draw_iterations(path, run)
    assert by_iteration([run])["a"]["kept_images"]["steps"] == list(range(12))


def test_curves(tmp_path, path):
    curve = {"aopc": 0.5, "curve": [0.0, 0.5, 0.7], "low": [0.0, 0.4, 0.6], "high": [0.0, 0.6, 0.8]}
    draw_aopc(tmp_path / "aopc.png", {"images": 3, "curves": {n: dict.fromkeys(SOURCES, curve) for n in NETWORKS}})
    rates = {rate: {"mean": [1.0, 0.5], "low": [0.9, 0.4], "high": [1.0, 0.6]} for rate in ("accuracy", "fsr")}
    draw_noise(path, {"levels": [0, 0.1], **dict.fromkeys(NETWORKS, rates)})


def test_phases(path):
    rates = {kind: {"mean": 50.0} for kind in ("clean", "pgd")}
    pictures = {"maps": torch.rand(3, 6, 7, 7), "images": torch.randint(0, 255, (6, 3, 56, 56), dtype=torch.uint8)}
    draw_phases(path, {"phases": dict.fromkeys(PHASES, rates), "fsr": {"mean": 90.0}}, pictures)
