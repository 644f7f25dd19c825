"""What the original network says: kept for images that never change, else from one pass, and never with a gradient."""

import copy
import multiprocessing
import os
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import build_tiny, make_photos
from omegaconf import OmegaConf, open_dict
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader

from advfool.data import DigitsModule, FolderModule, InputFormat
from advfool.data.composites import composite_splits
from advfool.data.digits import Digits
from advfool.data.samples import collate, take
from advfool.foolings import Active, CenterMass, Location, TopK
from advfool.interpreters import LRP, GradCAM, IntegratedGradients, SimpleGrad, SmoothGrad
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.models.tiny import FAMILIES
from advfool.training import reference
from advfool.training.cached_original import cached_original
from advfool.training.module import _draw_from_top
from advfool.training.preserve import CrossEntropy, Distillation
from advfool.utilities.config import build, conf_dir

FORMAT = InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3)
LAYER = "layer3.1"
GRADCAM = GradCAM(name="gradcam", layer=LAYER, training_leak=0.1)
CPU = torch.device("cpu")
EVAL_BATCH = 8
EXACTLY = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("advfool.data.digits.PLACEMENTS", {"train": 1, "selection": 1, "test": 1})
        yield DigitsModule(FORMAT, str(tmp_path_factory.mktemp("cache")), limit_train=20, limit_val=20)


@pytest.fixture(scope="module")
def composites(digits):
    everything = copy.copy(digits)
    everything.limits = dict.fromkeys(digits.limits)
    return composite_splits(everything, (3, 8), train=20, test=6).train


@pytest.fixture(scope="module")
def shared_network():
    return build_tiny("resnet_tiny", torch.float32)[0].requires_grad_(False)


@pytest.fixture
def original(shared_network):
    return copy.deepcopy(shared_network)


@pytest.fixture
def exact(shared_network):
    """The same in float64, where the size of a batch makes no difference."""
    return copy.deepcopy(shared_network).double()


def keep(cache, network, data, targets="label", interpreter=GRADCAM, precision=None):
    dtype = next(network.parameters()).dtype

    def collated(batch):
        batch = collate(batch)
        return batch._replace(image=batch.image.to(dtype))

    loader = DataLoader(data, EVAL_BATCH, collate_fn=collated)
    return cached_original(cache, network, interpreter, data, loader, targets, CPU, precision)


def finished(cache):
    """How many different things are kept."""
    return len([path for path in (cache / "original").iterdir() if path.is_dir() and not path.suffix])


def some_of(digits, chosen):
    return Digits({name: values[chosen] for name, values in digits.train().tensors.items()}, FORMAT)


@contextmanager
def passes(network):
    """Counts the forward passes of a network."""
    count = []
    handle = network.register_forward_pre_hook(lambda *_: count.append(1))
    yield count
    handle.remove()


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
    monkeypatch.setattr(reference, "_own_program", lambda: "a rule of LRP was edited")
    keep(tmp_path, original, data)
    assert finished(tmp_path) == 4


def test_the_files_that_make_maps_are_there():
    package = Path(reference.__file__).parent
    assert all(list(package.glob(pattern)) for pattern in reference.MAP_MAKERS)


def test_ties_are_kept_and_drawn_alike(tmp_path, original, digits):
    with torch.no_grad():
        original.fc.weight.zero_()
        original.fc.bias.copy_(torch.tensor([0.0, 1, 1, 0, 1, 0, 0, 0, 0, 0]))
    kept = keep(tmp_path, original, digits.train(), 1).look_up(torch.arange(20))
    drawn = _draw_from_top(kept.logits, 1)
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


# Processes that die, and processes that wait.


@pytest.fixture
def one_thread():
    """A forked process has no threads of its parent's pool, so it must not wait for any."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def in_a_process(function):
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    return process


@pytest.mark.usefixtures("one_thread")
def test_what_a_killed_process_left_half_written_is_not_taken_for_finished(tmp_path, original, digits):
    def killed():
        turns = iter((None, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        original.register_forward_pre_hook(lambda *_: (next(turns) or (lambda: None))())
        keep(tmp_path, original, digits.train())

    process = in_a_process(killed)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert list((tmp_path / "original").rglob("*.npy"))  # there is something to mistake
    with passes(original) as count:
        kept = keep(tmp_path, original, digits.train()).look_up(torch.arange(20))
    assert len(count) == 3
    elsewhere = keep(tmp_path / "elsewhere", original, digits.train()).look_up(torch.arange(20))
    assert torch.equal(kept.logits, elsewhere.logits)
    assert torch.equal(kept.maps(digits.train().labels()), elsewhere.maps(digits.train().labels()))


def test_an_error_midway_leaves_nothing_that_counts(tmp_path, original, digits):
    def fail(*_):
        if fail.count:
            raise RuntimeError("no space left")
        fail.count += 1

    fail.count = 0
    handle = original.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="no space left"):
        keep(tmp_path, original, digits.train())
    handle.remove()
    assert finished(tmp_path) == 0
    with passes(original) as count:
        keep(tmp_path, original, digits.train())
    assert (len(count), finished(tmp_path)) == (3, 1)


@pytest.mark.usefixtures("one_thread")
def test_one_process_computes_and_the_others_wait(tmp_path, original, digits):
    counter = multiprocessing.get_context("fork").Value("i", 0)

    def count(*_):
        with counter.get_lock():
            counter.value += 1

    original.register_forward_pre_hook(count)
    processes = [in_a_process(lambda: keep(tmp_path, original, digits.train())) for _ in range(3)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert counter.value == 3
    assert finished(tmp_path) == 1


# The training step.


def module(original, fooling, preserve=None, **options):
    from advfool.training.module import FoolingModule

    manipulated = copy.deepcopy(original).requires_grad_(True)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in manipulated.parameters():
            parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    preserve = preserve or Distillation()
    return FoolingModule(manipulated, original, GRADCAM, fooling, preserve, torch.optim.Adam, num_classes=10, **options)


def batch_of(fooling, digits, composites):
    index = [11, 4, 19, 9, 13]
    images = take(digits.train(), index)
    return {"images": images, "composites": take(composites, [19, 3, 7])} if fooling.needs_composites else images


def kept_for(cache, original, fooling, digits, composites, targets="label"):
    if fooling.needs_composites:
        return {
            "train": keep(cache, original, composites),
            "images": keep(cache, original, digits.train(), interpreter=None),
        }
    return {"train": keep(cache, original, digits.train(), targets)}


STEPS = [
    (TopK(), {}, "label"),
    (TopK(), {"target": "predicted"}, 1),
    (TopK(), {"train_target_top": 3}, 3),
    (CenterMass(), {"preserve": CrossEntropy()}, "label"),
    (Location(), {}, "label"),
    (Active(), {}, "label"),
    (Active(), {"preserve": CrossEntropy()}, "label"),
]


@pytest.mark.parametrize(("fooling", "options", "targets"), STEPS)
@pytest.mark.filterwarnings("ignore:You are trying to .self.log")
def test_a_training_step_is_the_same_with_and_without_kept_values(
    tmp_path, original, digits, composites, fooling, options, targets
):
    batch = batch_of(fooling, digits, composites)
    kept = kept_for(tmp_path, original, fooling, digits, composites, targets)
    losses, gradients = [], []
    for known in ({}, kept):
        step = module(original, fooling, cached_original=known, **options)
        torch.manual_seed(7)
        loss = step.training_step(batch, 0)
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in step.network.parameters() if p.grad is not None])
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * a.abs().max().item() + 1e-7)


@pytest.mark.parametrize(
    ("fooling", "options", "targets", "needed"),
    [
        (Location(), {"preserve": CrossEntropy()}, "label", 0),
        (Location(), {}, "label", 1),
        (TopK(), {"preserve": CrossEntropy()}, "label", 1),
        (TopK(), {}, "label", 1),  # the maps and the distillation share it
        (TopK(), {"train_target_top": 3}, 3, 1),
        (CenterMass(), {"target": "predicted"}, 1, 1),
        (Active(), {"preserve": CrossEntropy()}, "label", 1),
        (Active(), {}, "label", 2),  # of the composites, and of the images
    ],
)
@pytest.mark.filterwarnings("ignore:You are trying to .self.log")
def test_a_step_runs_the_original_as_rarely_as_it_can(
    tmp_path, original, digits, composites, fooling, options, targets, needed
):
    batch = batch_of(fooling, digits, composites)
    kept = kept_for(tmp_path, original, fooling, digits, composites, targets)
    by_pass, looked_up = module(original, fooling, **options), module(original, fooling, cached_original=kept, **options)
    with passes(original) as count:
        by_pass.training_step(batch, 0)
        assert len(count) == needed
        looked_up.training_step(batch, 0)
        assert len(count) == needed


@pytest.mark.parametrize("fooling", [TopK(), CenterMass(), Active()])
@pytest.mark.filterwarnings("ignore:You are trying to .self.log")
def test_a_step_gives_the_original_no_gradient(original, digits, composites, fooling):
    original.requires_grad_(True)
    step = module(original, fooling)
    step.training_step(batch_of(fooling, digits, composites), 0).backward()
    assert all(p.grad is None and not p.requires_grad for p in original.parameters())
    assert any(p.grad is not None and p.grad.any() for p in step.network.parameters())


@pytest.mark.parametrize("target", ["label", "predicted"])
def test_validation_is_the_same_with_and_without_kept_values(tmp_path, original, digits, target):
    images = digits.selection()
    kept = {"selection": keep(tmp_path, original, images, "label" if target == "label" else 1)}
    found = []
    for known in ({}, kept):
        step = module(original, CenterMass(), cached_original=known, target=target)
        with passes(original) as count:
            step.validation_step(take(images, [5, 1, 19, 12]), 0)
        assert len(count) == (0 if known else 1)
        found.append((step.val_fsr.compute(), step.val_test_loss.compute()))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


# Which images are kept: those that never change, where looking them up pays.


def kept_splits(cache, *overrides):
    """What a run keeps, from its configuration."""
    from hydra import compose, initialize_config_dir

    from advfool.commands.setup import assemble
    from advfool.commands.train import _kept

    options = ["model=resnet_tiny", "model.weights=null", "evaluate_with=[]", "data=imagefolder", "data.workers=0"]
    options += [f"cache={cache}", "fool_weight=1", "trainer.max_steps=200", "data.batch_size=4", "data.pair=[cat,dog]"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [*options, *overrides])
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    return _kept(cfg, assemble(cfg), trainer)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 8), ("val", 3)):
        for label in ("cat", "dog"):
            make_photos(root / split / label, count)
    return root


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["fooling=topk", "data.augment=false"], {"train": True, "selection": True}),
        (["fooling=topk", "data.augment=true"], {"selection": True}),
        (["fooling=topk", "data.augment=false", "cache_original=false"], {}),
        (["fooling=topk", "data.augment=false", "trainer.max_steps=1"], {}),
        (["fooling=topk", "data.augment=false", "mix=0.5"], {"selection": True}),
        (["fooling=location", "data.augment=false"], {"train": False}),
        (["fooling=location", "data.augment=true", "target=predicted"], {"selection": False}),
        (
            ["fooling=location", "data.augment=false", "preserve=cross_entropy", "train_target_top=null"],
            {},
        ),
        (
            ["fooling=active", "fooling.train=8", "fooling.test=4", "data.augment=true", "train_target_top=null"],
            {"train": True, "selection": True},
        ),
        (
            ["fooling=active", "fooling.train=8", "fooling.test=4", "data.augment=false", "train_target_top=null"],
            {"train": True, "images": False, "selection": True},
        ),
        (
            ["fooling=active", "fooling.train=8", "fooling.test=4", "fooling.fresh=true", "train_target_top=null"],
            {"selection": True},
        ),
    ],
)
def test_a_run_keeps_what_never_changes_and_is_looked_at_repeatedly(tmp_path, photos, overrides, expected):
    kept = kept_splits(tmp_path, f"data.root={photos}", *overrides)
    assert {split: "maps" in values.arrays for split, values in kept.items()} == expected


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
