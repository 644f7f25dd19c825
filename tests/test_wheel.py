"""The wheel holds everything: installed elsewhere it finds its configuration from any folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.helpers.runs import a_run

ROOT = Path(__file__).parents[1]


def test_the_wheel_runs_from_another_folder(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert "advfool/conf/train.yaml" in names
    assert "advfool/data/imagenet_wnids.txt" in names
    assert "advfool/auditing/audit.schema.json" in names
    assert "advfool/library/fooled/resnet_tiny-location-gradcam.manipulated.safetensors" in names
    assert "advfool/experiments/table1/reported.json" in names
    assert not any(name.startswith(("tests/", "conf/")) for name in names)

    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    elsewhere.mkdir()
    code = "import advfool, sys; print(advfool.__file__); sys.argv[1:] = ['--cfg', 'job']; import advfool.train as t; t.main()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith(str(site))
    assert "_target_: advfool.interpreters.GradCAM" in result.stdout

    def installed(*command: str) -> str:
        options = {"cwd": elsewhere, "env": os.environ | {"PYTHONPATH": str(site)}, "check": True}
        return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, **options).stdout

    assert "paper: table1" in installed("advfool.train", "experiment=table1", "--cfg", "job")
    run = elsewhere / "runs" / "one"
    run.mkdir(parents=True)
    finished = a_run(fooling="location", interp="lrp_t")
    for name, content in (("config.yaml", finished.config), ("metrics.json", finished.metrics)):
        (run / name).write_text(json.dumps(content))
    installed("advfool.report", "runs=runs")
    assert "87.5" in (elsewhere / "runs" / "report.md").read_text()  # as published, from experiments/
