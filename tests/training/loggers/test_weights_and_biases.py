"""What W&B would show, read back from the files that a run has recorded for it."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from advfool.training import loggers as dashboards
from advfool.utilities.config import conf_dir
from advfool.utilities.errors import AdvfoolError
from tests.helpers.callbacks import INTERRUPT
from tests.helpers.command import metrics_of, run, run_here
from tests.helpers.dashboards import LOOKS, PICTURES, SHORT, STEPS, TINY


@dataclass
class Recorded:
    """A file of `wandb sync`: what a dashboard is made of."""

    run: object = None
    config: dict = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)  # local files by type and name
    exit_code: int | None = None

    def values(self, name: str) -> list:
        return [row[name] for row in self.history if name in row]


def records(path: Path):
    """W&B's records: protobufs in LevelDB's log format, blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(part)
            part = b""


def put(target: dict, items) -> None:
    for item in items:
        *path, last = item.nested_key or [item.key]
        node = target
        for key in path:
            node = node.setdefault(key, {})
        node[last] = json.loads(item.value_json)


def read_back(path: Path) -> Recorded:
    found = Recorded()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        content = getattr(record, kind)
        if kind == "run":
            found.run = content
        elif kind == "config":
            put(found.config, content.update)
        elif kind == "history":
            found.history.append({})
            put(found.history[-1], content.item)
        elif kind == "summary":
            put(found.summary, content.update)
        elif kind == "files":
            found.files += [file.path for file in content.files]
        elif kind == "artifact":
            found.artifacts[content.type] = {entry.path: Path(entry.local_path) for entry in content.manifest.contents}
        elif kind == "exit":
            found.exit_code = content.exit_code
    return found


def recorded(folder: Path) -> list[Recorded]:
    return [read_back(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


@pytest.fixture(scope="module")
def nobody(tmp_path_factory):
    """Somebody without an account, whose home W&B leaves nothing in."""
    pytest.importorskip("wandb")
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SWEEP_ID", "WANDB_IDENTITY_TOKEN_FILE"):
            patch.delenv(name, raising=False)
        patch.setenv("NETRC", str(home / "netrc"))
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(home))
        yield


@pytest.fixture(scope="module")
def broken_and_resumed(nobody, tmp_path_factory):
    """A run that is interrupted after its second look, and goes on in its folder."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = [*TINY, *SHORT, "logger=wandb", "+logger.wandb.notes=a word"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERRUPT_AT", "5")
        first = run(folder, *options, INTERRUPT)
    assert first.returncode not in (0, 2), first.stderr
    second = run(folder, *options, f"resume={folder}")
    assert second.returncode == 0, second.stderr
    return folder, recorded(folder), second


def test_without_an_account_the_run_is_recorded_and_says_how_to_upload_it(broken_and_resumed):
    folder, _, result = broken_and_resumed
    text = result.stdout + result.stderr + (folder / "train.log").read_text()
    assert "No W&B account is known here (wandb login, WANDB_API_KEY): the run is recorded offline." in text
    last = max((folder / "wandb").glob("offline-run-*"))
    assert f"To upload it: wandb login, then wandb sync {last}" in text


def test_a_run_that_goes_on_is_the_same_run(broken_and_resumed):
    folder, (first, second), _ = broken_and_resumed
    assert first.run.run_id == second.run.run_id == (folder / "wandb" / "id.txt").read_text()
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert max(first.values("trainer/global_step")) < 6
    assert max(second.values("trainer/global_step")) == 6
    assert "model" not in first.artifacts


def test_the_run_says_what_it_is(broken_and_resumed):
    folder, (_, found), _ = broken_and_resumed
    assert (found.run.project, found.run.job_type, found.run.notes) == ("advfool", "train", "a word")
    assert found.run.display_name == "resnet_tiny-location-gradcam-0"
    assert list(found.run.tags) == ["resnet_tiny", "location", "gradcam"]
    assert found.run.run_group == ""
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert {key: found.config[key] for key in config} == config


def test_values_by_step_with_their_extremes(broken_and_resumed):
    _, (first, found), _ = broken_and_resumed
    assert set().union(*found.history) >= STEPS | LOOKS
    assert all("trainer/global_step" in row for row in found.history)
    for name in ("val/top1", "val/fsr/gradcam", "val/fsr/lrp_t"):
        values = found.values(name)
        assert found.summary[name] == {"min": min(values), "max": max(values), "last": values[-1]}
    assert isinstance(found.summary["val/score"], float)  # one number, which W&B's sweeps optimise
    assert len(first.values("val/top1")) == 3  # before the first step and after the second and fourth


def test_the_results_of_the_test_images(broken_and_resumed):
    folder, (_, found), _ = broken_and_resumed
    metrics = metrics_of(folder)
    assert found.summary["test/fsr/gradcam"] == metrics["fsr"]["gradcam"]
    assert found.summary["test/accuracy/drop/top1"] == metrics["accuracy"]["drop"]["top1"]
    assert not [name for name in found.summary if "ci95" in name or "by_class" in name]


def test_pictures_and_the_table_of_images(broken_and_resumed):
    folder, (_, found), _ = broken_and_resumed
    media = max((folder / "wandb").glob("offline-run-*")) / "files"
    for name in PICTURES:
        (*_, last) = found.values(name)
        assert last["_type"] == "images/separated"
        (path,) = last["filenames"]
        assert path in found.files
        assert (media / path).read_bytes() == (folder / f"{name.removeprefix('pictures/')}.png").read_bytes()
    table = found.summary["per_image"]
    assert (table["_type"], table["nrows"]) == ("table-file", 70)
    content = json.loads((media / table["path"]).read_text())
    assert {"index", "class", "prediction/manipulated", "spearman/lrp_t"} <= set(content["columns"])
    assert [row[content["columns"].index("index")] for row in content["data"]] == list(range(70))


def test_weights_and_report_are_artifacts(broken_and_resumed):
    folder, (_, found), _ = broken_and_resumed
    weights = folder / "manipulated.safetensors"
    assert found.artifacts["model"] == {"manipulated.safetensors": weights}  # not copied
    report = found.artifacts["report"]
    files = {"metrics.json", "config.yaml", "environment.json", "heatmaps.png", "report/report.html"}
    assert files <= set(report)
    for name in files:
        assert report[name].read_bytes() == (folder / name).read_bytes()


def test_cells_of_a_sweep_are_runs_of_a_group_and_failures_are_marked(nobody, tmp_path):
    folder = tmp_path / "rates"
    options = [*TINY, "logger=wandb", "evaluate_with=[]", "pictures=0", "scheduler=null", "optimizer.lr=1e18,1e-4"]
    result = run_here("advfool.train", ["-m", f"hydra.sweep.dir={folder}", *options, "callbacks.divergence=null"])
    assert result.returncode == 1
    cells = {}
    for cell in folder.glob("*/metrics.csv"):
        (found,) = recorded(cell.parent)
        cells[found.config["optimizer"]["lr"]] = found
    assert {rate: found.exit_code for rate, found in cells.items()} == {1e18: 1, 1e-4: 0}
    assert {found.run.run_group for found in cells.values()} == {"rates"}
    assert len({found.run.run_id for found in cells.values()}) == 2


def test_the_experiment_is_group_and_tag():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", ["experiment=real_photos", "logger=wandb"], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    assert cfg.logger.wandb.group == "real_photos"
    assert list(cfg.logger.wandb.tags) == ["efficientnet_lite0", "location", "gradcam", "real_photos"]


class Begun(Exception):
    """What wandb.init was asked for."""


@pytest.mark.parametrize(
    ("variables", "settings", "mode"),
    [
        ({}, {}, "offline"),
        ({}, {"mode": "online"}, "online"),
        ({"WANDB_MODE": "online"}, {}, None),
        ({"WANDB_API_KEY": "0" * 40}, {}, None),
    ],
)
def test_where_the_run_is_recorded(nobody, monkeypatch, tmp_path, variables, settings, mode):
    import wandb

    def init(**kwargs):
        raise Begun(kwargs)

    monkeypatch.setattr(wandb, "init", init)
    wandb.teardown()  # forgets the credentials of the case before
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Begun) as begun:
        dashboards.Wandb(str(tmp_path), **settings)
    assert begun.value.args[0]["mode"] == mode


def test_which_run_goes_on(nobody, monkeypatch, tmp_path):
    import wandb

    def init(**kwargs):
        raise Begun(kwargs)

    def asked(folder: Path, resume: Path | None = None) -> dict:
        with pytest.raises(Begun) as begun:
            dashboards.Wandb(str(folder), resume and str(resume), mode="offline")
        return begun.value.args[0]

    monkeypatch.setattr(wandb, "init", init)
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "wandb").mkdir(parents=True)
    (old / "wandb" / "id.txt").write_text("1a2b3c")
    assert asked(new)["id"] is None
    assert (asked(old)["id"], asked(old)["resume"]) == ("1a2b3c", "allow")  # interrupted before its first checkpoint
    (old / "metrics.json").touch()
    assert asked(old)["id"] is None  # finished: begun anew
    assert asked(new, old)["id"] == "1a2b3c"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")  # its agent knows
    assert {"id", "project", "resume"}.isdisjoint(asked(old))


@pytest.mark.parametrize(("package", "logger"), [("wandb", "Wandb"), ("tensorboard", "TensorBoard")])
def test_a_missing_package_is_named(monkeypatch, tmp_path, package, logger):
    monkeypatch.setattr("advfool.training.loggers.base.find_spec", lambda name: None)
    with pytest.raises(AdvfoolError) as error:
        getattr(dashboards, logger)(str(tmp_path))
    assert str(error.value) == f"logger={package} needs the package {package}: pip install 'advfool[{package}]'."


def test_long_tables_are_thinned_evenly(monkeypatch):
    from advfool.training.loggers.weights_and_biases import rows_to_show

    assert rows_to_show(70) == slice(None, None, 1)
    assert len(range(50_000)[rows_to_show(50_000)]) == 10_000
    assert len(range(10_001)[rows_to_show(10_001)]) == 5_001


def test_the_sweep_file_of_wandb_gives_commands_that_compose(nobody, monkeypatch):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "cell")
    sweep = OmegaConf.to_container(OmegaConf.load(conf_dir().parent / "sweep.wandb.yaml"))
    chosen = {name: {"value": node.get("value", node.get("max"))} for name, node in sweep["parameters"].items()}
    arguments = create_sweep_command_args({"args": chosen})["args_no_hyphens"]
    command = create_sweep_command(sweep["command"])
    assert command[:4] == ["${env}", "python", "-m", "advfool.train"]
    assert command[-1] == "${args_no_hyphens}"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [*command[4:-1], *arguments], return_hydra_config=True)
    assert cfg.hydra.run.dir == "runs/wandb/sweep/cell"
    assert (cfg.interp.name, cfg.fooling.name) == ("lrp_t", "topk")
    assert (cfg.fool_weight, cfg.optimizer.lr) == (100, 1e-2)
    assert sweep["metric"]["name"] == cfg.callbacks.checkpoint.monitor
