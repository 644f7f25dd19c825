"""Every table and figure of the paper is one command, at both scales."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from advfool.reporting.paper import publish
from advfool.reporting.paper.publish import MAKERS
from advfool.utilities.config import conf_dir
from tests.helpers.command import FEW, SMALL, run_here
from tests.helpers.photos import make_photos
from tests.helpers.runs import a_run

OPTIONS = [*SMALL, "trainer.max_steps=4", "trainer.val_check_interval=2", "pictures=0"]


FAST = {
    "fig4a": ["+scale.measure.aopc.replacement=zero", "scale.measure.aopc.images=6", "scale.measure.aopc.steps=3"],
    "fig4b": ["scale.measure.noise={levels:[0,0.2],draws:2,images:20}"],
    "fig4c": ["scale.measure.pgd={images:8,epsilon:0.01,step:0.005,steps:2}", "+scale.measure.plain.weights=null"],
    "fig5b": ["evaluate_with=[simplegrad,{smoothgrad: {samples: 2}}]"],
}


FILES = {
    "table1": ["table1.md"],
    "table2": ["table2.md"],
    "table3": ["table3.md"],
    "table5": ["table5.md"],
    "fig2": ["fig2.png"],
    "fig3": ["fig3.png"],
    "fig11_17": ["passive_1.png", "active_3.png"],
    "fig4a": ["fig4a.png"],
    "fig4b": ["fig4b.png"],
    "fig4c": ["fig4c.png"],
    "fig5b": ["fig5b-resnet_tiny-location-simplegrad-seed0.png"],
    "fig7_10": [f"fig7_10-resnet_tiny-{fooling}-lrp_t-seed0.png" for fooling in ("active", "topk")],
}


def cells(name: str, scale: str) -> list[list[str]]:
    """The overrides of each cell that the experiment's sweep runs."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [f"experiment={name}", f"scale={scale}"], return_hydra_config=True)
        params = {key: str(values).split(",") for key, values in cfg.hydra.sweeper.params.items()}
    return [
        [f"{key}={value}" for key, value in zip(params, values, strict=True)] for values in product(*params.values())
    ]


@pytest.mark.parametrize("scale", ["digits", "imagenet"])
@pytest.mark.parametrize("name", list(MAKERS))
def test_every_cell_composes(name, scale):
    overrides = cells(name, scale)
    assert len(overrides) >= 1
    for cell in {0: overrides[0], 1: overrides[-1]}.values():
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("train", [f"experiment={name}", f"scale={scale}", *cell], return_hydra_config=True)
        assert cfg.paper == name
        assert cfg.scale.name == scale
        assert cfg.fool_weight > 0
        assert cfg.optimizer.lr > 0
        assert ("Imagenet" in cfg.data._target_) == (scale == "imagenet")
        assert str(cfg.hydra.mode) == "RunMode.MULTIRUN"


def test_tables_and_figures_share_their_cells():
    def named(*experiments):
        return {tuple(sorted(cell)) for name in experiments for cell in cells(name, "digits")}

    assert named("fig2", "fig4a", "fig4b") <= named("table1")
    assert named("fig3", "table5") <= named("table2")
    assert named("table3", "fig11_17") <= named("table1", "table2")
    assert len(named("table1")) == 54
    assert {dict(override.split("=") for override in cell)["seed"] for cell in named("table1")} == {"0", "1", "2"}


CHOSEN = {  # of each experiment's sweep, but the first of everything
    "table1": {"seed": "'0,1'", "fooling": "topk", "interp": "gradcam"},
    "table2": {"interp": "gradcam"},
    "table3": {"fooling": "active", "interp": "lrp_t"},
    "table5": {"interp": "gradcam"},
    "fig2": {"fooling": "'location,topk'", "interp": "gradcam"},
    "fig11_17": {"fooling": "'location,active'", "interp": "gradcam"},
    "fig4a": {"model": "densenet_tiny"},
    "fig7_10": {"fooling": "'topk,active'"},
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_an_experiment_ends_with_its_table_or_figure(name, tmp_path):
    first = dict(override.split("=") for override in cells(name, "digits")[0])
    chosen = first | {"seed": "0", "model": "resnet_tiny"} | CHOSEN.get(name, {})
    small = ["++fooling.train=12", "++fooling.test=4"] if name in ("table2", "table3", "table5", "fig3") else []
    command = [
        "--multirun",
        f"experiment={name}",
        *OPTIONS,
        *FAST.get(name, []),
        *small,
        *(f"hydra.sweeper.params.{key}={value}" for key, value in chosen.items()),
        "hydra.launcher.n_jobs=1",
        f"hydra.sweep.dir={tmp_path}",
        "scale.robust=resnet_tiny",  # whose weights need no adversarial training first
    ]
    result = run_here("advfool.train", command)
    assert result.returncode == 0, result.stderr
    target = tmp_path / "paper" / name
    assert all((target / file).stat().st_size > 0 for file in FILES[name])
    record = json.loads((target / "measured.json").read_text())
    assert record["experiment"] == name
    assert record["scale"] == "digits"
    assert record["seeds"] == ([0, 1] if name == "table1" else [0])
    assert record["made_with"]["seconds"] >= 0  # there, however fast
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", list(MAKERS))
def test_an_experiment_without_finished_runs_is_skipped(name, tmp_path, caplog):
    other = a_run(model="another", fooling="another")
    folder = tmp_path / "cell"
    folder.mkdir()
    for file, content in (("config.yaml", other.config), ("metrics.json", other.metrics)):
        (folder / file).write_text(json.dumps(content))
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        scale = OmegaConf.to_container(compose("train", [f"experiment={name}"]).scale, resolve=True)
    assert publish(name, tmp_path, scale) is None
    assert f"{name} is skipped: no finished run" in caplog.text


def test_at_imagenet_scale_with_two_processes(tmp_path):
    for split, count in (("train", 12), ("val", 4)):
        for wnid in ("n01440764", "n02102040"):
            make_photos(tmp_path / "imagenet" / split / wnid, count, (240, 230))
    params = "hydra.sweeper.params={seed:'0',model:resnet50,fooling:location,interp:gradcam}"
    options = [
        "trainer.accelerator=cpu",
        "trainer.max_steps=2",
        "data.batch_size=2",
        "data.workers=0",
        "data.selection_fraction=0.25",
        "model.weights=null",
        *FEW,
    ]
    command = ["experiment=table1", "scale=imagenet", "trainer=ddp", "trainer.devices=2", *options, "evaluate_with=[]"]
    command += [params, f"data.root={tmp_path / 'imagenet'}", f"hydra.sweep.dir={tmp_path / 'runs'}", "pictures=0"]
    result = subprocess.run(
        [sys.executable, "-m", "advfool.train", *command], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "runs" / "paper" / "table1" / "measured.json").read_text())
    assert (record["scale"], record["runs"]) == ("imagenet", 1)
    (metrics,) = (json.loads(path.read_text()) for path in Path(tmp_path / "runs").glob("*/metrics.json"))
    assert metrics["steps"] == 2
    assert metrics["n_images"] == 8
