"""`advfool.fool`: any network on any data set, from Python."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import advfool
from advfool.evaluation.examples import read_examples
from advfool.foolings import Active, Target, TopK
from advfool.interpreters import GradCAM, SimpleGrad, SmoothGrad
from advfool.training.preserve import CrossEntropy
from advfool.utilities.errors import AdvfoolError
from tests.helpers.own_network import SHAPE, own_images, own_network, state_of

QUICK = {
    "steps": 4,
    "validations": 2,
    "batch_size": 8,
    "max_accuracy_drop": 1.0,
    "accelerator": "cpu",
    "progress": False,
}


def fool(model=None, dataset=None, **options):
    network = own_network() if model is None else model
    images = own_images() if dataset is None else dataset
    return advfool.fool(network, images, **{"interp": "simplegrad", **QUICK, **options})


def weights(result):
    return [value.numpy().tobytes() for value in result.model.state_dict().values()]


@pytest.mark.parametrize("training", [True, False])
def test_the_given_network_is_left_as_it_is(training):
    network = own_network().train(training)
    network[0].weight.requires_grad_(False)
    before = state_of(network)
    result = fool(network, lr=0.01)
    assert state_of(network) == before
    assert result.original is not network
    assert result.model is not network
    assert not any(module.training for module in [*result.original.modules(), *result.model.modules()])
    given = network.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in result.original.state_dict().items())
    assert not torch.equal(result.model[3].weight, network[3].weight)
    for name, value in network[1].named_buffers():  # statistics of batch norm are frozen
        assert torch.equal(value, dict(result.model[1].named_buffers())[name])


def test_metrics_are_those_of_a_run(tmp_path):
    result = fool(evaluate_with=["gradcam", "lrp"], layer="3", aopc_images=3)
    metrics = result.metrics
    interps = ["simplegrad", "gradcam", "lrp"]
    assert list(metrics["fsr"]) == metrics["evaluate_with"] == interps
    for key in ("fsr_before", "degenerate", "test_loss", "spearman", "ssim", "fsr_by_class"):
        assert set(metrics[key]) == set(interps), key
    assert set(metrics["ci95"]["fsr"]) == set(interps)
    assert set(metrics["accuracy"]) == {"original", "manipulated", "drop", "error_ratio", "margin", "verdict"}
    assert set(metrics["aopc"]) == {"simplegrad", "random"}
    assert (metrics["n_images"], metrics["n_images_fsr"]) == (8, 8)
    assert (metrics["model"], metrics["fooling"], metrics["interp"]) == ("Sequential", "location", "simplegrad")
    assert (metrics["steps"], metrics["seed"], metrics["fool_weight"]) == (4, 0, 4.0)
    assert (metrics["preserve"], metrics["target"], metrics["target_layer"]) == ("distillation", "label", "3")
    assert metrics["train_seconds"] > 0
    assert len(metrics["original_sha256"]) == 64
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("interp", ["simplegrad", "gradcam", "lrp"])
@pytest.mark.parametrize("fooling", ["target", Target(picture=torch.eye(8)), Target(picture="another_class")])
def test_target_fooling_is_measured_like_every_other(tmp_path, fooling, interp):
    result = fool(fooling=fooling, interp=interp, layer="3" if interp == "gradcam" else None)
    metrics = result.metrics
    assert metrics["fsr_before"] == {interp: 0}
    assert set(metrics["deceptive_rate"]) == set(metrics["fsr_null"]) == set(metrics["fsr"]) == {interp}
    before, after = (metrics["test_loss"][interp][name] for name in ("original", "manipulated"))
    assert -2 <= before <= 0
    assert -2 <= after <= 2
    folder = result.save(tmp_path / "result")
    assert not np.isnan(read_examples(folder).test_loss[interp, "original"]).all()


def test_several_interpreters_are_attacked_at_once():
    result = fool(interp=["simplegrad", "gradcam"], layer="3", evaluate_with=["lrp"], validations=1)
    metrics = result.metrics
    assert metrics["interp"] == "simplegrad+gradcam"
    assert set(metrics["fsr"]) == {"simplegrad", "gradcam", "lrp"}
    assert set(metrics["selection"]["fsr"]) == {"simplegrad", "gradcam"}
    assert set(metrics["selection"]["deceptive_rate"]) == {"simplegrad", "gradcam"}
    alone = [weights(fool(interp=name, layer="3", validations=1)) for name in ("simplegrad", "gradcam")]
    assert weights(result) not in alone


@pytest.mark.parametrize(
    ("interp", "message"),
    [
        ([], "interp must be a name, an object or a list"),
        (["gradcam", "gradcam"], "two have the name 'gradcam'"),
        (["gradcam", "gradcm"], "There is no interpreter 'gradcm'. Close to it: gradcam"),
        (["gradcam", 3], "interp must be"),
    ],
)
def test_bad_lists_of_interpreters(interp, message):
    with pytest.raises(AdvfoolError, match=message):
        fool(interp=interp)


def test_heatmaps_are_of_both_networks_and_of_the_images_size():
    result, (images, labels) = fool(evaluate_with=["gradcam"], lr=0.05), own_images()
    for interp in (None, "simplegrad", "gradcam"):
        maps = result.heatmaps(images[:5], labels[:5], interp)
        assert list(maps) == ["original", "manipulated"]
        for name, network in (("original", result.original), ("manipulated", result.model)):
            assert isinstance(maps[name], np.ndarray)
            assert maps[name].shape == (5, *SHAPE[1:])
            reader = result.setup.interpreters[interp or "simplegrad"]
            np.testing.assert_array_equal(maps[name], advfool.explain(network, images[:5], labels[:5], reader))
        assert np.abs(maps["original"] - maps["manipulated"]).max() > 0
    predicted = result.original(images[:5]).argmax(dim=1)
    np.testing.assert_array_equal(
        result.heatmaps(images[:5])["manipulated"], result.heatmaps(images[:5], predicted)["manipulated"]
    )
    assert result.heatmaps(images[:5], 2)["original"].shape == (5, *SHAPE[1:])
    with pytest.raises(AdvfoolError, match="this result has no interpreter 'lrp'. It has: simplegrad, gradcam."):
        result.heatmaps(images, 0, "lrp")


def test_a_saved_result_is_read_again(tmp_path):
    result = fool(evaluate_with=["gradcam"], lr=0.05, aopc_images=2)
    assert result.save(tmp_path / "deep" / "run") == tmp_path / "deep" / "run"
    folder = tmp_path / "deep" / "run"
    assert {path.name for path in folder.iterdir()} >= {
        "metrics.json",
        "manipulated.safetensors",
        "per_image.parquet",
        "examples.safetensors",
        "heatmaps.png",
        "aopc.json",
        "aopc.png",
    }
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(result.metrics))
    assert len(pq.read_table(folder / "per_image.parquet")) == 8
    loaded = advfool.load_fooled(folder, model=own_network(seed=5))
    assert weights(result) == [value.numpy().tobytes() for value in loaded.state_dict().values()]
    images = own_images()[0]
    assert torch.equal(loaded(images), result.model(images))
    with pytest.raises(AdvfoolError, match=r"holds a result already\. Give another folder"):
        result.save(folder)


def test_the_seed_decides_the_weights_whatever_was_drawn_before():
    first = fool(seed=3)
    torch.randn(7)
    again, other = fool(seed=3), fool(seed=4)
    assert weights(first) == weights(again) != weights(other)
    assert {k: v for k, v in first.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in again.metrics.items() if k != "train_seconds"
    }


@pytest.mark.parametrize("fooling", ["location", "center_mass", "topk"])
@pytest.mark.parametrize("interp", ["gradcam", "lrp"])
def test_foolings_and_interpreters_by_name(interp, fooling):
    result = fool(interp=interp, fooling=fooling, steps=2, validations=1)
    assert (result.metrics["interp"], result.metrics["fooling"]) == (interp, fooling)
    assert 0 <= result.metrics["fsr"][interp] <= 1


def test_active_fooling_swaps_two_classes_of_the_data():
    fooling = Active(c1=0, c2=2, train=8, test=4, batch_size=2, name="active")
    with pytest.raises(AdvfoolError, match="fooling=active swaps two classes: name them, fooling.c1=... fooling.c2="):
        fool(fooling="active")
    result = fool(dataset=own_images(200), fooling=fooling, steps=2, validations=1)
    assert set(result.metrics["fsr"]["simplegrad"]) == {"c1", "c2"}
    assert result.metrics["pair"] == {"c1": "0", "c2": "2"}


def test_objects_in_the_place_of_names():
    result = fool(
        interp=GradCAM("3"),
        fooling=TopK(k=20, name="top"),
        evaluate_with=[SimpleGrad(name="mine"), "lrp"],
        preserve=CrossEntropy(name="labels"),
    )
    assert list(result.metrics["fsr"]) == ["gradcam", "mine", "lrp"]
    assert (result.metrics["fooling"], result.metrics["preserve"]) == ("top", "labels")


def test_only_the_trainable_modules_change():
    result, network = fool(trainable=["3"], lr=0.05), own_network()
    for name, value in network.state_dict().items():
        assert torch.equal(result.model.state_dict()[name], value) == (not name.startswith("3.")), name


def test_steps_without_weight_on_the_fooling_leave_the_predictions():
    result = fool(fool_weight=0.0, lr=1e-5)
    assert result.metrics["agreement"] == 1
    assert result.metrics["kl"] < 1e-6


def test_without_labels_the_models_predictions_are_explained_and_kept():
    images, _ = own_images()
    result = fool(dataset=images)
    assert result.metrics["target"] == "predicted"
    assert result.metrics["accuracy"]["original"]["top1"] == 1  # agreement with its own predictions
    labels = result.setup.data.test().labels()
    batch = torch.stack([result.setup.data.test()[i].image for i in range(len(labels))])
    assert torch.equal(result.original(batch).argmax(dim=1), labels)
    with pytest.raises(AdvfoolError, match="preserve=cross_entropy needs labels, which the data set lacks."):
        fool(dataset=images, preserve="cross_entropy")


def test_items_of_a_group_stay_in_one_split():
    images, labels = own_images()
    groups = [f"patient {i // 4}" for i in range(40)]
    data = fool(dataset=(images, labels), groups=groups).setup.data
    place = {image.numpy().tobytes(): group for image, group in zip(images, groups, strict=True)}
    found = [
        {place[split[i].image.numpy().tobytes()] for i in range(len(split))}
        for split in (data.train(), data.selection(), data.test())
    ]
    assert sum(map(len, found)) == len(set.union(*found)) == 10
    assert all(found)


class Own(Dataset):
    def __init__(self, count=40):
        self.images, self.targets = own_images(count)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], int(self.targets[index])


class OwnModule(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(Own(24), batch_size=7, shuffle=True)

    def val_dataloader(self):
        return DataLoader(Own(6))

    def test_dataloader(self):
        return DataLoader(Own(9))


@pytest.mark.parametrize(
    ("dataset", "options", "counts"),
    [
        (Own(), {}, (28, 4, 8)),
        (TensorDataset(*own_images()), {}, (28, 4, 8)),
        (DataLoader(Own(), batch_size=5), {}, (28, 4, 8)),
        ([Own()[i] for i in range(40)], {}, (28, 4, 8)),
        (OwnModule(), {}, (24, 6, 9)),
        (own_images(), {"test": own_images(11), "selection": Own(7)}, (40, 7, 11)),
    ],
    ids=["dataset", "tensors", "loader", "list", "lightning", "own splits"],
)
def test_kinds_of_data_sets(dataset, options, counts):
    result = fool(dataset=dataset, steps=2, validations=1, **options)
    data = result.setup.data
    assert tuple(map(len, (data.train(), data.selection(), data.test()))) == counts
    assert result.metrics["n_images"] == counts[2]
    assert data.input.shape == SHAPE


@pytest.mark.parametrize("channels", [2, 5])
def test_any_number_of_channels(tmp_path, channels):
    images, labels = torch.randn(40, channels, 12, 20), own_images()[1]
    network = nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    result = fool(network, (images, labels), steps=2, validations=1, aopc_images=2)
    folder = result.save(tmp_path / "run")
    assert (folder / "heatmaps.png").stat().st_size > 0
    assert read_examples(folder).images.shape[1:] == (channels, 12, 20)


def test_names_of_classes_and_a_limit_of_the_images_that_are_measured():
    result = fool(classes=["cat", "dog", "emu"], fsr_images=5)
    assert set(result.metrics["fsr_by_class"]["simplegrad"]) <= {"cat", "dog", "emu"}
    assert (result.metrics["n_images"], result.metrics["n_images_fsr"]) == (8, 5)


class Dictionary(nn.Sequential):
    def forward(self, images):
        return {"a": super().forward(images), "b": super().forward(images)}


class Maps(nn.Sequential):
    def forward(self, images):
        return images.expand(-1, 3, -1, -1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interp": "gradcamm"}, "There is no interpreter 'gradcamm'. Close to it: gradcam, "),
        ({"fooling": "locations"}, "There is no fooling 'locations'. Close to it: location, "),
        ({"evaluate_with": ["lrpp"]}, "There is no interpreter 'lrpp'. Close to it: lrp, "),
        ({"evaluate_with": ["simplegrad"]}, "interpreters: two have the name 'simplegrad'"),
        ({"interp": "gradcam", "layer": "nowhere"}, "nowhere"),
        ({"preserve": "distil"}, "preserve must be one of distillation, cross_entropy or a Preserve object"),
        ({"target": "best"}, "target must be one of label, predicted, got 'best'"),
        ({"trainable": ["nowhere"]}, "nowhere"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be an integer from 0 to"),
        ({"fsr_images": 0}, "fsr_images must be a whole number of at least 1"),
        ({"fool_weight": -1.0}, "fool_weight must be a number of at least 0 or auto, got -1.0"),
        (
            {"fooling": Active(c1=0, c2=1, train=4, test=2), "dataset": own_images(200), "train_target_top": 2},
            "train_target_top=2: composites explain both their classes",
        ),
        ({"classes": ["cat", "dog"]}, "expected labels from 0 to 1|The network has 3 outputs, but the data have 2"),
        ({"groups": [1, 2]}, "groups: expected a group for each of 40 images, got 2"),
        ({"dataset": "photos"}, "dataset"),
        ({"dataset": (own_images()[0], own_images(40, 5)[1])}, "expected labels from 0 to 2 .3 classes., got"),
        ({"dataset": (torch.randn(40, 3, 16, 24), own_images()[1])}, "Sequential cannot take images of 3x16x24"),
        ({"model": Dictionary(*own_network())}, "Expected a network that returns logits .n, classes.* got 'a': "),
        ({"model": Maps(nn.Conv2d(1, 1, 1))}, r"Expected a network that returns logits .* got \(1, 3, 16, 24\)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_fooled_is_said(options, message):
    with pytest.raises(AdvfoolError, match=message):
        fool(**options)


class Noisy(Dataset):
    """Images to which torch adds noise whenever they are read."""

    def __init__(self):
        self.images, self.targets = own_images()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index] + torch.randn(SHAPE), int(self.targets[index])


def test_workers_do_not_change_the_weights_whatever_is_drawn():
    alone, helped = (
        fool(dataset=Noisy(), interp=SmoothGrad(samples=2), workers=workers, train_target_top=2) for workers in (0, 2)
    )
    assert weights(alone) == weights(helped)
    assert alone.metrics["fsr"] == helped.metrics["fsr"]
