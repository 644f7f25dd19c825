"""Classes of a user's own: an interpreter, a fooling, a metric and data, with YAML files in a folder of their own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import advfool
from advfool.data import InputFormat
from advfool.metrics import METRICS
from advfool.models import ResNetTiny
from advfool.utilities import config
from advfool.utilities.errors import AdvfoolError
from tests.helpers.own_network import own_images, own_network

MODULE = '''
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from advfool.data import DataModule, Sample, Samples
from advfool.foolings import PassiveFooling
from advfool.interpreters import LayerInterpreter
from advfool.metrics import metric


@dataclass(frozen=True)
class Squares(LayerInterpreter):
    """The squared gradient, summed over the channels."""

    power: float = 2.0

    @property
    def sites(self):
        return (self.site,)

    def read(self, recording, targets):
        gradient = self.as_maps(recording.gradients(targets, self.site))
        return self.scale(gradient.abs().pow(self.power).sum(dim=1))


@dataclass(frozen=True)
class LeftHalf(PassiveFooling):
    """The share of the relevance outside of the left half."""

    interval: Sequence[float] = field(default=(0.0, 0.4), kw_only=True)

    def penalty(self, heatmaps, original=None):
        return heatmaps[:, :, heatmaps.shape[2] // 2 :].mean(dim=(1, 2))

    def _distance(self, heatmaps, original=None):
        return heatmaps[:, :, heatmaps.shape[2] // 2 :].sum(dim=(1, 2)) / heatmaps.sum(dim=(1, 2))


@metric(needs=("pair of maps",), direction="lower", range=(0, None))
def largest_change(original, manipulated):
    return (original - manipulated).abs().amax(dim=(1, 2))


class Few(Samples):
    def __init__(self, count, seed, input):
        pixels = torch.rand(count, 3, input.size, input.size, generator=torch.Generator().manual_seed(seed))
        self.images, self.targets, self.seed = input.normalise(pixels), torch.arange(count) % 4, seed

    def __len__(self):
        return len(self.targets)

    def labels(self):
        return self.targets

    def digest(self, indices=None):
        return f"{self.seed} {indices}"

    def __getitem__(self, index):
        return Sample(self.images[index], self.targets[index], torch.tensor(index), torch.full((4,), -1.0))


class Data(DataModule):
    classes = labels = ("north", "east", "south", "west")

    def __init__(self, input, batch_size=8, eval_batch_size=8, workers=0, seed=0, count=24):
        super().__init__(batch_size, eval_batch_size, workers, seed)
        self.input, self.count = input, count

    def train(self):
        return Few(self.count, 0, self.input)

    def selection(self):
        return Few(8, 1, self.input)

    def test(self):
        return Few(12, 2, self.input)
'''
FILES = {
    "interp/mine.yaml": (
        "_target_: my_extension.Squares\nname: mine\nlayer: ${model.target_layer}\nlayout: ${model.layout}\n"
        "normalise: max\npower: 2\n"
    ),
    "fooling/mine.yaml": "_target_: my_extension.LeftHalf\nname: mine\ninterval: [0, 0.4]\n",
    "data/mine.yaml": (
        "_target_: my_extension.Data\nbatch_size: 8\neval_batch_size: 8\nworkers: 0\nseed: ${seed}\ncount: 24\n"
    ),
}
QUICK = ["trainer.max_steps=2", "trainer.val_check_interval=1", "callbacks.progress=null", "model.weights=null"]
QUICK += ["callbacks.divergence=null", "aopc.images=0", "pictures=0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A module and a folder of YAML files; what the test registers and imports is forgotten again."""
    (tmp_path / "my_extension.py").write_text(MODULE)
    for name, text in FILES.items():
        path = tmp_path / "my_conf" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(config, "_registered", [])
    metrics = set(METRICS)
    yield tmp_path
    sys.modules.pop("my_extension", None)
    for name in set(METRICS) - metrics:
        del METRICS[name]


def train(folder, *overrides, module="advfool.train"):
    command = [sys.executable, "-m", module, *overrides, "--config-dir", str(folder / "my_conf")]
    environment = {**os.environ, "PYTHONPATH": str(folder), "ADVFOOL_CACHE": str(folder / "cache")}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_everything_of_ones_own_on_the_command_line(folder):
    run = folder / "run"
    overrides = ["interp=mine", "fooling=mine", "data=mine", "evaluate_with=[mine,gradcam]", "imports=[my_extension]"]
    done = train(folder, *overrides, *QUICK, f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(run)
    assert (metrics["interp"], metrics["fooling"], metrics["interval"]) == ("mine", "mine", [0, 0.4])
    assert metrics["evaluate_with"] == list(metrics["fsr"]) == ["mine", "gradcam"]
    assert set(metrics["largest_change"]) == set(metrics["undefined"]["largest_change"]) == {"mine", "gradcam"}
    assert set(metrics["fsr_by_class"]["mine"]) == {"north", "east", "south", "west"}
    assert metrics["n_images"] == 12
    assert "largest_change" in metrics["ci95"]

    again = folder / "again"
    overrides = [f"run={run}", "evaluate_with=[mine]", "imports=[my_extension]", "pictures=0"]
    done = train(folder, *overrides, f"hydra.run.dir={again}", module="advfool.evaluate")
    assert done.returncode == 0, done.stderr
    for key in ("largest_change", "test_loss", "fsr"):
        assert metrics_of(again)[key]["mine"] == pytest.approx(metrics[key]["mine"], abs=1e-6)
    assert metrics_of(again)["accuracy"] == metrics["accuracy"]


def test_a_metric_alone_needs_only_its_module(folder):
    options = ["data.limit_train=32", "data.limit_val=8", "data.limit_test=8", "evaluate_with=[gradcam]"]
    done = train(folder, "imports=[my_extension]", *options, *QUICK, f"hydra.run.dir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(folder / "run")
    assert metrics["largest_change"]["gradcam"] >= 0
    done = train(folder, "imports=[my_extensions]", *options, *QUICK)
    assert done.returncode == 1
    assert "imports: the module 'my_extensions' cannot be imported: No module named 'my_extensions'." in done.stderr
    assert "Traceback" not in done.stderr


def test_everything_of_ones_own_from_python(folder):
    with pytest.raises(AdvfoolError, match="There is no interpreter 'mine'"):
        advfool.explain(own_network().eval(), own_images(4)[0], 0, "mine")
    advfool.register(folder / "my_conf")
    advfool.register(str(folder / "my_conf"))
    assert config._registered == [folder / "my_conf"]
    assert "mine" in advfool.list_interpreters()
    assert "mine" in advfool.list_foolings()
    assert {"gradcam", "lrp"} < set(advfool.list_interpreters())

    maps = advfool.explain(own_network().eval(), own_images(4)[0], 0, "mine", size=None, layer="3")
    other = advfool.explain(own_network().eval(), own_images(4)[0], 0, "mine", size=None, layer="3", power=1)
    assert maps.shape == other.shape == (4, 16, 24)
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1, atol=1e-6)
    assert np.abs(maps - other).max() > 0.01
    with pytest.raises(AdvfoolError, match="interp=mine has no setting powr. It has: layer, layout, normalise, power"):
        advfool.explain(own_network().eval(), own_images(4)[0], 0, "mine", powr=1)

    options = {"steps": 2, "validations": 1, "max_accuracy_drop": 1.0, "accelerator": "cpu", "progress": False}
    result = advfool.fool(own_network(), own_images(), "mine", "mine", evaluate_with=["gradcam"], **options)
    assert list(result.metrics["fsr"]) == list(result.metrics["largest_change"]) == ["mine", "gradcam"]
    assert (result.metrics["fooling"], result.metrics["interval"]) == ("mine", [0, 0.4])
    rows = result.results.explained["largest_change/mine"]
    maps = result.heatmaps(*list_of(result.setup.data.test()))
    expected = np.abs(maps["original"] - maps["manipulated"]).max(axis=(1, 2))
    np.testing.assert_allclose(rows.numpy(), expected, atol=1e-4)


def test_data_of_ones_own_from_python(folder):
    import my_extension

    advfool.register(folder / "my_conf")
    data = my_extension.Data(InputFormat(28, 28, (0.5,) * 3, (0.25,) * 3))
    options = {"steps": 2, "validations": 1, "max_accuracy_drop": 1.0, "accelerator": "cpu", "progress": False}
    result = advfool.fool(ResNetTiny(num_classes=4), data, my_extension.Squares(name="squares"), "mine", **options)
    assert result.setup.data is data
    assert set(result.metrics["largest_change"]) == {"squares"}
    assert set(result.metrics["fsr_by_class"]["squares"]) == {"north", "east", "south", "west"}
    with pytest.raises(AdvfoolError, match="The network has 10 outputs, but the data have 4 classes"):
        advfool.fool(ResNetTiny(), data, "gradcam", **options)


def test_a_file_of_ones_own_comes_first_and_a_missing_folder_is_said(folder):
    (folder / "my_conf" / "interp" / "gradcam.yaml").write_text(FILES["interp/mine.yaml"])
    advfool.register(folder / "my_conf")
    network, images = own_network().eval(), own_images(4)[0]
    np.testing.assert_array_equal(
        advfool.explain(network, images, 1, "gradcam"), advfool.explain(network, images, 1, "mine")
    )
    with pytest.raises(AdvfoolError, match="register: expected a folder with YAML files .* found no '/.*nowhere'"):
        advfool.register("nowhere")


def list_of(samples):
    batch = [samples[i] for i in range(len(samples))]
    return torch.stack([sample.image for sample in batch]), torch.stack([sample.label for sample in batch])
