"""A folder of runs that were never trained, and its report."""

import pytest

from advfool.reporting.rows import result_rows
from advfool.reporting.runs import find_runs
from advfool.reporting.writing import write_all
from tests.helpers.fake_runs import BROKEN, NASTY, fake_run, write


def fake_sweep(folder):
    """Finished, failed and broken-off runs: two models, two seeds, passive and active, and one of nasty names."""
    fake_run(folder / "a", fooling="location", fsr=0.9, drop=0.01)
    fake_run(folder / "b", fooling="location", seed=1, fsr=0.8, drop=0.02)
    fake_run(folder / "c", fooling="location", interp="lrp_t", fsr=0.4, drop=0.0)
    fake_run(folder / "d", model="vgg_tiny", fooling="topk", fsr=1.0, drop=0.03)
    fake_run(folder / "e", fooling="active", fsr=0.6, drop=0.004)
    fake_run(folder / NASTY, model=NASTY, fooling="topk", interp="lrp", fsr=0.3, drop=0.05, name=NASTY)
    fake_run(folder / "failed", fooling="topk")
    for name in ("metrics.json", "aopc.json", "examples.safetensors", "metrics.csv"):
        (folder / "failed" / name).unlink()
    write(folder / "failed", "status.json", {"outcome": "failed", "error": f"Diverged {NASTY}. Lower optimizer.lr."})
    fake_run(folder / BROKEN)
    for name in ("metrics.json", "aopc.json", "examples.safetensors", "metrics.csv"):
        content = (folder / BROKEN / name).read_bytes()
        (folder / BROKEN / name).write_bytes(content[: len(content) // 2])
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = fake_sweep(tmp_path_factory.mktemp("sweep"))
    assert write_all(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def rows(sweep):
    return result_rows(find_runs(sweep))
