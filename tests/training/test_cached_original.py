"""What the original network says is kept for images that never change, once for each."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf, open_dict
from pytorch_lightning.plugins.precision import MixedPrecision

from advfool.data import FolderModule, InputFormat
from advfool.data.digits import Digits
from advfool.data.samples import take
from advfool.interpreters import LRP, IntegratedGradients, SimpleGrad, SmoothGrad
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.models.tiny import FAMILIES
from advfool.training import cached_original as module
from advfool.training.module import draw_from_top
from advfool.utilities.config import build, conf_dir
from tests.helpers.original import EVAL_BATCH, GRADCAM, LAYER, finished, keep, passes
from tests.helpers.photos import make_photos

FORMAT = InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3)


EXACTLY = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture
def exact(shared_network):
    """The same in float64, where the size of a batch makes no difference."""
    return copy.deepcopy(shared_network).double()


def some_of(digits, chosen):
    return Digits({name: values[chosen] for name, values in digits.train().tensors.items()}, FORMAT)


def by_itself(network, interpreter, data, classes):
    """Logits and maps of a fresh pass over each image alone."""
    logits, maps = [], []
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        for i, wanted in enumerate(classes.tolist()):
            image = take(data, [i]).image.to(dtype)
            logits.append(network(image)[0])
            wanted = wanted if isinstance(wanted, list) else [wanted]
            maps.append(torch.cat([interpreter(network, image, c) for c in wanted]))
    return torch.stack(logits), torch.stack(maps)


# What is kept is what a fresh pass says.


@pytest.mark.parametrize(
    "interpreter",
    [
        GRADCAM,
        SimpleGrad(),
        SmoothGrad(SimpleGrad(LAYER), samples=2),
        IntegratedGradients(LAYER, steps=3),
        LRP(LAYER),
        LRP(),
    ],
    ids=["gradcam", "simplegrad", "smoothgrad_t", "ig_t", "lrp_t", "lrp"],
)
def test_kept_values_are_those_of_a_fresh_pass_over_each_image_alone(tmp_path, exact, digits, interpreter):
    data = some_of(digits, slice(EVAL_BATCH + 2))
    kept = keep(tmp_path, exact, data, "label", interpreter).look_up(torch.arange(len(data)))
    logits, maps = by_itself(exact, interpreter, data, data.labels())
    torch.testing.assert_close(kept.logits, logits, **EXACTLY)
    torch.testing.assert_close(kept.maps(data.labels()), maps[:, 0], **EXACTLY)


def test_kept_values_are_to_the_last_digit_those_of_the_same_batches(tmp_path, original, digits):
    data = digits.train()
    kept = keep(tmp_path, original, data)
    for index in torch.arange(20).split(EVAL_BATCH):
        batch = take(data, index.tolist())
        with torch.no_grad():
            logits, maps = original(batch.image), GRADCAM(original, batch.image, batch.label)
        assert torch.equal(kept.look_up(index).logits, logits)
        assert torch.equal(kept.look_up(index).maps(batch.label), maps)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_the_maps_of_the_most_probable_classes_can_be_kept(tmp_path, exact, digits, k):
    data = some_of(digits, slice(8))
    kept = keep(tmp_path, exact, data, k).look_up(torch.arange(8))
    order = kept.logits.sort(dim=1, descending=True).indices[:, :k]
    _, maps = by_itself(exact, GRADCAM, data, order)
    for place in range(min(k, 10)):
        torch.testing.assert_close(kept.maps(order[:, place]), maps[:, place], **EXACTLY)
    torch.testing.assert_close(kept.maps(order.flip(1)), maps.flip(1), **EXACTLY)  # in any order
    predicted = kept.logits.argmax(dim=1)
    assert torch.equal(kept.maps(predicted), kept.maps(order[:, 0]))


def test_both_maps_of_composites_are_kept(tmp_path, exact, composites):
    kept = keep(tmp_path, exact, composites).look_up(torch.arange(20))
    logits, maps = by_itself(exact, GRADCAM, composites, composites.labels())
    torch.testing.assert_close(kept.logits, logits, **EXACTLY)
    torch.testing.assert_close(kept.maps(composites.labels()), maps, **EXACTLY)
    torch.testing.assert_close(kept.maps(composites.labels().flip(1)), maps.flip(1), **EXACTLY)


def test_images_are_looked_up_by_their_index_in_any_order(tmp_path, original, digits):
    kept, labels = keep(tmp_path, original, digits.train()), digits.train().labels()
    everything = kept.look_up(torch.arange(20))
    index = torch.tensor([19, 2, 2, 17])
    some = kept.look_up(index)
    assert torch.equal(some.logits, everything.logits[index])
    assert torch.equal(some.maps(labels[index]), everything.maps(labels)[index])


def test_logits_alone_need_no_interpreter(tmp_path, original, digits):
    kept = keep(tmp_path, original, digits.train(), interpreter=None)
    assert set(kept.arrays) == {"logits"}
    with_maps = keep(tmp_path, original, digits.train())
    assert torch.equal(*(values.look_up(torch.arange(20)).logits for values in (kept, with_maps)))


def test_kept_values_lie_in_memory_mapped_files(tmp_path, original, digits):
    kept = keep(tmp_path, original, digits.train())
    assert set(kept.arrays) == {"logits", "classes", "maps"}
    assert all(isinstance(array, np.memmap) and array.mode == "r" for array in kept.arrays.values())
    assert all(str(array.filename).startswith(str(tmp_path)) for array in kept.arrays.values())
    looked_up = kept.look_up(torch.arange(3))
    looked_up.logits.zero_()  # a copy
    assert kept.look_up(torch.arange(3)).logits.abs().sum() > 0


def test_what_is_kept_has_no_gradient_and_leaves_the_network_alone(tmp_path, original, digits):
    original.requires_grad_(True)
    before = copy.deepcopy(original.state_dict())
    kept = keep(tmp_path, original, digits.train()).look_up(torch.arange(5))
    assert not kept.logits.requires_grad
    assert not kept.maps(digits.train().labels()[:5]).requires_grad
    assert all(parameter.grad is None and parameter.requires_grad for parameter in original.parameters())
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())
    assert not original._forward_pre_hooks


# Once for each image.


@pytest.mark.parametrize("interpreter", [GRADCAM, None])
def test_values_are_computed_once(tmp_path, original, digits, interpreter):
    data, batches = digits.train(), 3
    with passes(original) as count:
        first = keep(tmp_path, original, data, interpreter=interpreter).look_up(torch.arange(20))
        assert len(count) == batches
        again = keep(tmp_path, original, data, interpreter=interpreter).look_up(torch.arange(20))
        assert len(count) == batches
    assert torch.equal(first.logits, again.logits)


def test_several_classes_share_a_pass(tmp_path, original, digits, composites):
    with passes(original) as count:
        keep(tmp_path, original, digits.train(), 5)
        assert len(count) == 3
        keep(tmp_path, original, composites)
        assert len(count) == 6


def test_the_same_content_is_found_again_whatever_it_is_called(tmp_path, original, digits):
    keep(tmp_path, original, digits.train())
    data = Digits({name: values.clone() for name, values in digits.train().tensors.items()}, FORMAT)
    other = copy.deepcopy(original)
    with passes(other) as count:
        keep(tmp_path, other, data, interpreter=replace(GRADCAM, name="another"))
    assert not count
    assert finished(tmp_path) == 1


def test_another_weight_buffer_or_network_is_another_original(tmp_path, original, digits):
    data = digits.train()
    keep(tmp_path, original, data)
    with torch.no_grad():
        original.conv1.weight[0, 0, 0, 0] += 1e-6
    keep(tmp_path, original, data)
    assert finished(tmp_path) == 2
    with torch.no_grad():
        original.bn1.running_mean[0] += 1e-6
    keep(tmp_path, original, data)
    assert finished(tmp_path) == 3
    original.relu = torch.nn.LeakyReLU(0.3)  # no weights of its own
    keep(tmp_path, original, data)
    assert finished(tmp_path) == 4


def test_attributes_programs_and_precision_are_part_of_the_original(tmp_path, original, digits, monkeypatch):
    data = digits.train()
    keep(tmp_path, original, data)
    original.transform_input = True  # in no repr
    keep(tmp_path, original, data)
    assert finished(tmp_path) == 2
    kept = keep(tmp_path, original, data, precision=MixedPrecision("bf16-mixed", "cpu"))
    assert finished(tmp_path) == 3
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        batch = take(data, range(EVAL_BATCH))
        maps = read_maps(GRADCAM, record(original, batch.image, [GRADCAM]), batch.label)
    assert torch.equal(kept.look_up(batch.index).maps(batch.label), maps)
    monkeypatch.setattr(module, "_own_program", lambda: "a rule of LRP was edited")
    keep(tmp_path, original, data)
    assert finished(tmp_path) == 4


def test_the_files_that_make_maps_are_there():
    package = Path(module.__file__).parents[1]
    assert all((package / name).is_dir() for name in module.NOT_IN_KEY)
    assert not {"data", "interpreters", "utilities"} & set(module.NOT_IN_KEY)


def test_ties_are_kept_and_drawn_alike(tmp_path, original, digits):
    with torch.no_grad():
        original.fc.weight.zero_()
        original.fc.bias.copy_(torch.tensor([0.0, 1, 1, 0, 1, 0, 0, 0, 0, 0]))
    kept = keep(tmp_path, original, digits.train(), 1).look_up(torch.arange(20))
    drawn = draw_from_top(kept.logits, 1)
    assert torch.equal(drawn, kept.logits.argmax(dim=1))
    assert kept.maps(drawn).shape[0] == 20


def test_another_pixel_label_or_normalisation_is_other_data(tmp_path, original, digits):
    def changed(name, index, value):
        tensors = {key: values.clone() for key, values in digits.train().tensors.items()}
        tensors[name][index] = value
        return Digits(tensors, FORMAT)

    tensors = digits.train().tensors
    pixel = tensors["image"][7, 0, 3, 3].item()
    keep(tmp_path, original, digits.train())
    for data in (
        changed("image", (7, 0, 3, 3), pixel + 1 if pixel < 255 else pixel - 1),
        changed("label", 7, (tensors["label"][7] + 1) % 10),
        Digits(tensors, replace(FORMAT, std=(0.5,) * 3)),
        some_of(digits, slice(19)),
        some_of(digits, torch.arange(19, -1, -1)),
    ):
        before = finished(tmp_path)
        keep(tmp_path, original, data)
        assert finished(tmp_path) == before + 1


def test_another_setting_of_the_interpreter_or_other_classes_are_kept_apart(tmp_path, original, digits):
    data = digits.train()
    settings = [GRADCAM, replace(GRADCAM, normalise="minmax"), replace(GRADCAM, layer_side="output")]
    settings += [SmoothGrad(SimpleGrad(LAYER), samples=1, seed=seed) for seed in (0, 1)]
    for count, interpreter in enumerate(settings, start=1):
        keep(tmp_path, original, data, interpreter=interpreter)
        assert finished(tmp_path) == count
    for targets in (1, 2):
        keep(tmp_path, original, data, targets)
    keep(tmp_path, original, data, interpreter=None)
    assert finished(tmp_path) == len(settings) + 3


def test_photos_are_known_by_their_content(tmp_path, exact):
    def keep_photos(root):
        data = FolderModule(FORMAT, str(root), workers=0, augment=False).train()
        with passes(exact) as count:
            kept = keep(tmp_path / "cache", exact, data).look_up(torch.arange(len(data)))
        _, maps = by_itself(exact, GRADCAM, data, data.labels())
        torch.testing.assert_close(kept.maps(data.labels()), maps[:, 0], **EXACTLY)
        return len(count)

    for split in ("train", "val"):
        for label in ("cat", "dog"):
            make_photos(tmp_path / "photos" / split / label, 4)
    assert keep_photos(tmp_path / "photos") == 1
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert keep_photos(tmp_path / "moved") == 0
    for path in (tmp_path / "moved" / "train" / "cat").iterdir():  # all, as one may be the selection's
        shutil.copy(next((tmp_path / "moved" / "train" / "dog").iterdir()), path)
    assert keep_photos(tmp_path / "moved") == 1


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 8), ("val", 3)):
        for label in ("cat", "dog"):
            make_photos(root / split / label, count)
    return root


def test_the_key_is_the_same_in_every_process(photos):
    """No address of an object in what describes interpreters, networks and transforms."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", ["model=resnet_tiny"])
    transform = repr(FolderModule(FORMAT, str(photos), workers=0).plain_train().transform)
    described = [transform, *(repr(network()) for network in FAMILIES.values())]
    for path in sorted((conf_dir() / "interp").glob("*.yaml")):
        with open_dict(cfg):
            cfg.interp = OmegaConf.load(path)
        described.append(repr(replace(build(cfg.interp), name="")))
    assert len(described) > 15
    assert not [text for text in described if " at 0x" in text]
    for setting in ("size=[56]", "mean=[0.5, 0.5, 0.5]", "std=[0.25, 0.25, 0.25]", "BILINEAR"):
        assert setting in transform
