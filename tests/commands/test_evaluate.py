"""`python -m advfool.evaluate`: of a run, and of any two state dicts."""

import json

import pyarrow.parquet as pq
import pytest

from tests.helpers.command import FEW, SMALL, metrics_of, run
from tests.helpers.photos import make_photos

ROW = ["gradcam", "lrp_t", "simplegrad_t", "lrp"]


QUICK = ["pictures=0", "aopc.images=0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    options = ["trainer.max_steps=6", "trainer.val_check_interval=3", "optimizer.lr=1e-3", "scheduler=null"]
    options += ["fooling=center_mass", "interp=lrp_t", "callbacks.map_metrics.every_n_validations=1"]
    options += ["callbacks.snapshots.every_n_validations=2", "callbacks.map_metrics.aopc_images=9", "aopc.images=10"]
    result = run(folder, *SMALL, *options)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_training_ends_with_the_transfer_row(trained):
    folder, result = trained
    metrics = metrics_of(folder)
    assert list(metrics["fsr"]) == metrics["evaluate_with"] == ["lrp_t", "gradcam", "simplegrad_t"]
    for key in ("spearman", "pearson", "cosine", "ssim", "topk_intersection", "test_loss", "fsr_before", "degenerate"):
        assert set(metrics[key]) == set(metrics["fsr"]), key
    for interp in metrics["fsr"]:
        low, high = metrics["ci95"]["fsr"][interp]
        assert 0 <= low <= metrics["fsr"][interp] <= high <= 1
    assert set(metrics["aopc"]) == {"lrp_t", "random"}
    assert 0 <= metrics["agreement"] <= 1
    assert metrics["interval"] == [0.1, 1]
    assert json.loads((folder / "aopc.json").read_text())["lrp_t/original/manipulated"][0] == 0
    assert (folder / "aopc.png").exists()
    assert "simplegrad_t" in result.stdout


def test_every_image_has_a_row(trained):
    table = pq.read_table(trained[0] / "per_image.parquet").to_pylist()
    assert [row["index"] for row in table] == list(range(70))
    for row in table:
        assert (row["kind"], row["path"]) == ("image", None)
        assert row["class"] == str(row["label"])
        assert 0 <= row["prediction/manipulated"] < 10
        assert row["degenerate/lrp_t/original"] in (0, 1)
    fooled = [0.1 <= row["test_loss/lrp_t/manipulated"] <= 1 for row in table]  # NaN is in no interval
    assert sum(fooled) / 70 == pytest.approx(metrics_of(trained[0])["fsr"]["lrp_t"])


def test_callbacks_leave_curves_and_snapshots(trained):
    import torch
    from safetensors.torch import load_file

    folder, _ = trained
    header = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    expected = {"val/fsr/gradcam", "val/fsr/lrp_t", "val/spearman/gradcam", "val/spearman/lrp_t", "val/aopc/lrp_t"}
    assert expected <= set(header)
    kept = load_file(folder / "snapshots.safetensors")
    assert kept["steps"].tolist() == [0, 6]  # looks at steps 0, 3 and 6, every second of them
    assert kept["maps/lrp_t"].shape == (2, 4, 7, 7)
    assert kept["test_loss/lrp_t"].shape == (2, 4)
    assert not torch.equal(*kept["maps/lrp_t"])
    assert (folder / "snapshots.png").exists()


def test_four_names_give_four_interpreters_and_the_numbers_of_the_run(trained, tmp_path):
    folder, _ = trained
    done = run(tmp_path / "e", f"run={folder}", f"evaluate_with=[{','.join(ROW)}]", *QUICK, module="advfool.evaluate")
    assert done.returncode == 0, done.stderr
    again, first = metrics_of(tmp_path / "e"), metrics_of(folder)
    assert set(again["fsr"]) == set(ROW)
    assert len({again["test_loss"][name]["manipulated"] for name in ROW}) == 4
    for key in ("fsr", "test_loss", "spearman"):
        for name in first[key]:
            assert again[key][name] == pytest.approx(first[key][name], abs=1e-6)
    assert again["accuracy"] == first["accuracy"]
    assert (again["fooling"], again["model"], again["interp"]) == ("center_mass", "resnet_tiny", "lrp_t")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "e" / "per_image.parquet").exists()


def test_two_state_dicts_without_a_run(trained, tmp_path):
    weights = trained[0] / "manipulated.safetensors"
    options = [
        "model=resnet_tiny",
        f"original={weights}",
        f"manipulated={weights}",
        "fooling=topk",
        "data.limit_test=20",
    ]
    done = run(tmp_path / "e", *options, *QUICK, "evaluate_with=[gradcam]", module="advfool.evaluate")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "e")
    assert metrics["agreement"] == 1
    assert metrics["kl"] == pytest.approx(0, abs=1e-7)
    assert metrics["spearman"]["gradcam"] == pytest.approx(1)
    assert metrics["fsr"]["gradcam"] == metrics["fsr_before"]["gradcam"]  # a flat map is 'fooled' by itself


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "error: evaluate: expected a run's folder (run=runs/...) or weights (manipulated=PATH"),
        (
            ["run=/nowhere"],
            "error: run=/nowhere: expected the folder of a finished training run, found no 'config.yaml'",
        ),
        (["manipulated=/no.safetensors"], "error: evaluate: expected manipulated weights '/no.safetensors'"),
        (["run=RUN", "seed=1"], "The original network is not the one that"),
        (["run=RUN", "fsr_images=0"], "error: fsr_images must be a whole number of at least 1, or null, got 0."),
        (
            ["run=RUN", "aopc.interpreters=[ig]"],
            "error: aopc.interpreters must be a list of those evaluated with (lrp_t,",
        ),
        (
            ["run=RUN", "aopc.replacement=x"],
            "error: aopc.replacement must be one of uniform, mean, blur, zero, got 'x'.",
        ),
        (["run=RUN", "aopc.images=4", "aopc.region=9", "aopc.steps=37"], "has 36 regions of 9x9"),
    ],
)
def test_expected_errors_are_a_message(trained, tmp_path, overrides, message):
    overrides = [override.replace("RUN", str(trained[0])) for override in overrides]
    done = run(tmp_path / "e", *overrides, module="advfool.evaluate")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interpreter_that_cannot_explain_the_network_is_an_error_if_it_was_asked_for(tmp_path):
    options = [*SMALL, "trainer.max_steps=1", *QUICK, "evaluate_with=[{lrp_t: {layer: x}}]"]
    done = run(tmp_path / "run", *options)
    assert done.returncode == 1
    assert "error: evaluate_with=lrp_t: ResNetTiny has no layer 'x'." in done.stderr


def test_a_default_interpreter_that_cannot_explain_the_network_is_left_out(tmp_path):
    """There is no walk for LRP through a vision transformer."""

    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            make_photos(tmp_path / "photos" / split / name, 3, (240, 230))
    options = ["model=torchvision", "model.arch=vit_b_32", "model.weights=null", "interp=simplegrad", "fool_weight=1"]
    options += ["data=imagefolder", f"data.root={tmp_path / 'photos'}", "data.workers=0", "trainer.max_steps=1"]
    done = run(tmp_path / "run", *options, "pictures=0", "data.batch_size=1", *FEW)
    assert done.returncode == 0, done.stderr
    names = list(metrics_of(tmp_path / "run")["fsr"])
    assert "lrp_t" not in names
    assert names[0] == "simplegrad"
    assert "evaluate_with: lrp_t is left out" in done.stdout + done.stderr
