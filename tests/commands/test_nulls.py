"""`python -m advfool.nulls`: every control of a run, with the honest fine-tune trained once."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from advfool.commands.honest import moved
from advfool.commands.nulls import print_nulls, with_another_seed
from advfool.commands.pretrained import weights_path
from advfool.models.weights import write_weights
from advfool.utilities.config import conf_dir
from tests.helpers.command import SMALL, metrics_of, run, weights_of
from tests.helpers.networks import build_tiny

CONTROLS = {"honest_finetune", "sharpened_4", "sharpened_16", "blurred", "noise", "another_image", "independent"}
CONTROLS |= {"untrained"}
RECIPE = ["trainer.max_steps=6", "trainer.val_check_interval=3", "fooling=topk", "seed=7"]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A finished run, and weights of another network of the same architecture."""
    folder = tmp_path_factory.mktemp("nulls")
    other, _ = build_tiny("resnet_tiny", torch.float32)
    write_weights(other, folder / "other.safetensors", [str(c) for c in range(10)])
    weights = f"model.weights={folder / 'other.safetensors'}"
    options = [option for option in SMALL if not option.startswith("model.weights")]
    done = run(folder / "run", *options, weights, *RECIPE, "evaluate_with=[]", "pictures=0", "nulls.controls=[]")
    assert done.returncode == 0, done.stderr
    return folder


def of_run(places, name, *options):
    """The command for the run, with a cache for the honest fine-tunes that knows the digits."""
    weights = f"original={places / 'other.safetensors'}"
    options = ["evaluate_with=[]", "nulls.images=12", f"nulls.independent={places / 'other.safetensors'}", *options]
    return run(places / name, f"run={places / 'run'}", weights, *options, module="advfool.nulls")


def test_every_control_of_a_run_is_measured_and_the_honest_finetune_is_trained_once(places):
    before = {path: path.read_bytes() for path in (places / "run").rglob("*") if path.is_file()}
    done = of_run(places, "first")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(places / "first")
    found = metrics["nulls"]["gradcam"]
    assert set(found) == CONTROLS
    for control, rates in found.items():
        assert set(rates) == {"fsr", "deceptive_rate"}
        low, high = metrics["ci95"]["nulls"]["gradcam"][control]["fsr"]
        assert 0 <= low <= rates["fsr"] <= high <= 1
    negative = {name: found[name]["fsr"] for name in ("honest_finetune", "sharpened_4", "sharpened_16", "blurred")}
    assert metrics["fsr_null"]["gradcam"] == max(negative.values())
    null = metrics["fsr_null_control"]["gradcam"]
    assert f"The null of gradcam is {null}: an FSR of {100 * max(negative.values()):.1f} %" in done.stdout
    assert (metrics["n_images_fsr"], metrics["n_images_nulls"], metrics["fooling"]) == (70, 12, "topk")
    assert 0 <= metrics["n_deceptive_nulls"]["gradcam"] <= 12
    # The run is left as it is, and its recipe without fooling has been followed.
    assert {path: path.read_bytes() for path in (places / "run").rglob("*") if path.is_file()} == before
    honest = load_file(metrics["weights"]["honest_finetune"])
    original, attacked = load_file(places / "other.safetensors"), weights_of(places / "run")
    for name in ("conv1.weight", "fc.weight"):
        assert not torch.equal(honest[name], original[name])
        assert not torch.equal(honest[name], attacked[name])
    # Again, in another folder: the same numbers, and no training.
    again = of_run(places, "second")
    assert again.returncode == 0, again.stderr
    assert "Finished before" in again.stdout + again.stderr or "Validation" not in again.stdout
    repeated = metrics_of(places / "second")
    assert repeated["weights"] == metrics["weights"]
    assert (repeated["nulls"], repeated["ci95"]) == (metrics["nulls"], metrics["ci95"])


def test_weights_of_controls_are_taken_by_evaluate_and_by_nulls(places):
    other = places / "other.safetensors"
    options = [f"nulls.honest_finetune={other}", f"nulls.independent={other}", "evaluate_with=[gradcam]"]
    options += ["nulls.images=12", "pictures=0", f"original={other}"]
    done = run(places / "evaluated", f"run={places / 'run'}", *options, module="advfool.evaluate")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(places / "evaluated")
    assert set(metrics["nulls"]["gradcam"]) == {"honest_finetune", "independent"}
    # A network whose maps are the original's counts as these do.
    assert metrics["nulls"]["gradcam"]["honest_finetune"]["fsr"] == metrics["fsr_before"]["gradcam"]
    mine = of_run(places, "given", f"nulls.honest_finetune={other}", "nulls.controls=[sharpened_4]")
    found = metrics_of(places / "given")["nulls"]["gradcam"]
    assert set(found) == {"honest_finetune", "independent", "sharpened_4"}
    assert found["honest_finetune"]["fsr"] == metrics["fsr_before"]["gradcam"]
    assert "honest_finetune" in mine.stdout


def test_a_network_that_does_not_fit_or_another_original_is_refused(places, tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    write_weights(torch.nn.Linear(2, 2), wrong, [str(c) for c in range(10)])
    done = of_run(places, "wrong", f"nulls.honest_finetune={wrong}")
    assert done.returncode == 1
    assert f"nulls.honest_finetune={wrong}: The weights in {wrong} do not fit ResNetTiny" in done.stderr
    other, _ = build_tiny("resnet_tiny", torch.float32)
    with torch.no_grad():
        other.fc.weight.mul_(2)
    write_weights(other, tmp_path / "others.safetensors", [str(c) for c in range(10)])
    options = [f"run={places / 'run'}", f"model.weights={tmp_path / 'others.safetensors'}"]
    done = run(places / "refused", *options, module="advfool.nulls")
    assert done.returncode == 1
    assert "The original network is not the one" in done.stderr


def test_the_independent_tiny_network_is_that_of_another_seed():
    def composed(model):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("nulls", [f"model={model}"])

    first, second = composed("resnet_tiny"), composed("resnet_tiny_2")
    assert weights_path(with_another_seed(first)) == weights_path(second) != weights_path(first)
    assert weights_path(with_another_seed(second)) == weights_path(first)


def test_paths_below_a_folder_are_led_below_another_one(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    tree = {"a": {"dirpath": str(old / "checkpoints"), "elsewhere": str(tmp_path)}, "root": str(old), "steps": 3}
    assert moved(tree, old, new)["a"] == {"dirpath": str(new / "checkpoints"), "elsewhere": str(tmp_path)}
    assert (moved(tree, old, new)["root"], moved(tree, old, new)["steps"]) == (str(new), 3)


def test_both_classes_of_an_active_fooling_have_rows(capsys):
    both = {"fsr": {"c1": 0.25, "c2": 0.5}, "deceptive_rate": {"c1": None, "c2": 0.0}}
    null = {
        "fsr_null": {"lrp": {"c1": 0.25, "c2": 0.5}},
        "fsr_null_control": {"lrp": {"c1": "blurred", "c2": "blurred"}},
    }
    about = {"model": "m", "fooling": "active", "n_images_fsr": 9, "n_images_nulls": 4, "ci95": {}, "left_out": {}}
    count = {"n_deceptive_nulls": {"lrp": {"c1": 0, "c2": 3}}}
    print_nulls({"nulls": {"lrp": {"blurred": both, "noise": both}}, **null, **about, **count})
    shown = capsys.readouterr().out
    assert "The null of lrp c2 is blurred: an FSR of 50.0 % needs no attack." in shown
    assert shown.count("lrp c1") == 3
