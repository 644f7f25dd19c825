"""Free adversarial training against the paper's algorithm written down, and what it leaves alone."""

import copy
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader

from advfool.commands.pretrained import pretrained_weights, weights_path
from advfool.data.composites import Composites, CompositeSplits, WithComposites
from advfool.data.samples import Sample, take
from advfool.foolings import Active, CenterMass, Location, TopK
from advfool.interpreters import LRP, GradCAM, SimpleGrad
from advfool.training.adversarial import FreeAdversarialTraining
from advfool.training.module import FoolingModule
from advfool.training.preserve import CrossEntropy, Distillation
from advfool.training.pretraining import Classifier, Recipe
from advfool.training.settings import Training
from advfool.utilities.config import build, conf_dir
from advfool.utilities.errors import AdvfoolError
from tests.helpers.attacks import in_ball
from tests.helpers.command import SMALL, metrics_of, run
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_module

EPSILON, REPLAYS = 0.03, 2


def trainer(*callbacks, steps=7, **options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    quiet |= {"enable_checkpointing": False, "inference_mode": False, "limit_val_batches": 0} | options
    return pl.Trainer(accelerator="cpu", max_steps=steps, max_epochs=None, callbacks=list(callbacks), **quiet)


def free(**options) -> FreeAdversarialTraining:
    return FreeAdversarialTraining(RandomData.input, **{"epsilon": EPSILON, "replays": REPLAYS, **options})


def classifier(network, lr: float, steps: int, weight_decay: float = 0, label_smoothing: float = 0) -> Classifier:
    return Classifier(network, Recipe(1, 8, lr, weight_decay, label_smoothing), steps)


def test_a_classifier_is_trained_by_the_papers_algorithm():
    """Algorithm 1 of Shafahi et al. 2019, written down."""
    expected = build_tiny("resnet_tiny", torch.float32)[0].train()
    module = classifier(copy.deepcopy(expected), 0.01, 14, weight_decay=0.05, label_smoothing=0.1)
    (optimizer,), (schedule,) = [torch.optim.AdamW(expected.parameters(), 0.01, weight_decay=0.05)], [None]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=14)
    delta, mean, std = torch.zeros(8, 3, 56, 56), 0.5, 0.25
    data = RandomData()
    loader = data.train_dataloader()
    for batch in (batch for _ in range(2) for batch in loader):
        for _ in range(REPLAYS):
            pixels = (batch.image * std + mean + delta).clamp(0, 1)
            images = ((pixels - mean) / std).requires_grad_()
            loss = F.cross_entropy(expected(images), batch.label, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            delta = (delta + EPSILON * images.grad.sign()).clamp(-EPSILON, EPSILON)
            optimizer.step()
            schedule.step()
    callback = free()
    trainer(callback, steps=12).fit(module, datamodule=RandomData())
    assert (callback.delta != delta).float().mean() < 1e-3
    for (name, value), found in zip(expected.state_dict().items(), module.network.state_dict().values(), strict=True):
        torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-5, msg=name)


class Probe(pl.Callback):
    """What is trained on in each step: the network before it, its images, and composites that join them."""

    def __init__(self) -> None:
        self.seen: list[tuple[nn.Module, Sample]] = []
        self.composites: list[Sample] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if isinstance(batch, dict):
            self.composites.append(batch["composites"])
            batch = batch["images"]
        network = copy.deepcopy(module.network).requires_grad_(False)
        self.seen.append((network, batch._replace(image=batch.image.detach().clone())))


FOOLINGS = {
    "location": (Location(), GradCAM("layer3.1", name="gradcam"), CrossEntropy()),
    "location at the images": (Location(), SimpleGrad(name="simplegrad"), CrossEntropy()),
    "topk": (TopK(), LRP("layer3.1", name="lrp_t"), Distillation()),
    "center_mass": (CenterMass(), GradCAM("layer3.1", name="gradcam"), Distillation()),
    "active": (Active(), GradCAM("layer3.1", name="gradcam"), Distillation()),
}


def fooling_module(case: str = "location", **options) -> FoolingModule:
    fooling, interp, preserve = FOOLINGS[case]
    network = build_tiny("resnet_tiny", torch.float32)[0]
    options |= {"preserve": preserve, "optimizer": partial(torch.optim.SGD, lr=1e-3), "fool_weight": 4}
    return make_module(network, interp, fooling, **options)


def data_for(case: str) -> pl.LightningDataModule:
    data = RandomData()
    if case != "active":
        return data
    sources = tuple(torch.arange(8)[torch.arange(8) % 2 == c] for c in (0, 1))
    parts = (Composites(part, (0, 1), sources, 6, 0) for part in data.parts.values())
    return WithComposites(data, CompositeSplits(*parts), 3)


@pytest.mark.parametrize("case", FOOLINGS)
def test_images_climb_the_classification_loss_while_heatmaps_are_fooled(case):
    callback, probe, module, data = free(), Probe(), fooling_module(case), data_for(case)
    before = copy.deepcopy(module.network.state_dict())
    trainer(callback, probe, steps=5).fit(module, datamodule=data)
    assert any(not torch.equal(value, before[name]) for name, value in module.network.state_dict().items())
    assert len(probe.seen) == 5
    assert data.replays == REPLAYS
    orders = [batch.index.tolist() for _, batch in probe.seen]
    assert orders[0] == orders[1] != orders[2] == orders[3]

    train = (data.data if case == "active" else data).train()
    delta = torch.zeros(8, 3, 56, 56)
    for network, batch in probe.seen:
        clean = take(train, batch.index.tolist()).image
        expected = (RandomData.input.pixels(clean) + delta).clamp(0, 1)
        assert differ(RandomData.input.pixels(batch.image), expected) < 2e-3
        assert in_ball(batch.image, clean, EPSILON + 1e-6, "linf", RandomData.input)
        images = batch.image.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(images), batch.label), images)
        delta = (delta + EPSILON * gradient.sign()).clamp(-EPSILON, EPSILON)
    assert differ(callback.delta, delta) < 2e-3
    assert callback.delta.abs().max() <= EPSILON
    for batch in probe.composites:
        assert torch.equal(batch.image, take(data.composites.train, batch.index.tolist()).image)


def served(batch: Sample, times: int = 1) -> DataLoader:
    return DataLoader([batch] * times, batch_size=None, collate_fn=lambda same: same)


def differ(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The share of positions that differ: rounding can turn the sign of a gradient that is nearly 0."""
    return (one - other).abs().gt(1e-5).float().mean()


@pytest.mark.parametrize("module", [fooling_module, lambda: classifier(build_tiny("vgg_tiny")[0].float(), 0.01, 9)])
def test_a_batch_served_again_is_what_it_was(module):
    """A loader may serve the same object, or views of what it holds; a step may fail."""
    module, data = module(), RandomData()
    batch = take(data.train(), range(8))
    image, preserve = batch.image.clone(), getattr(module, "preserve", None)
    data.train_dataloader = lambda: served(batch, 4)
    callback = free()

    class Fails(pl.Callback):
        def on_after_backward(self, trainer, module):
            if trainer.global_step == 6:
                raise RuntimeError("a step fails")

    with pytest.raises(RuntimeError, match="a step fails"):
        trainer(callback, Fails()).fit(module, datamodule=data)
    assert torch.equal(batch.image, image)
    assert not batch.image.requires_grad
    assert batch.image.grad is None
    assert getattr(module, "preserve", None) is preserve
    assert callback.delta.abs().max() > 0


def test_the_step_and_batches_of_other_sizes():
    module, data = classifier(build_tiny("resnet_tiny", torch.float32)[0], 1e-9, 9), RandomData()
    batch = take(data.train(), range(8))
    callback = free(step=EPSILON / 4)
    data.train_dataloader = lambda: served(batch)
    trainer(callback, steps=2).fit(module, datamodule=data)
    assert callback.delta.abs().max() == pytest.approx(EPSILON / 2)
    kept = callback.delta.clone()
    data.train_dataloader = lambda: served(Sample(*(values[:3] for values in batch)))
    trainer(callback, steps=1).fit(module, datamodule=data)
    assert torch.equal(callback.delta[3:], kept[3:])
    assert not torch.equal(callback.delta[:3], kept[:3])


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path):
    """Interrupted between the replays of a batch."""
    whole, resumed = (fooling_module("topk") for _ in range(2))
    callbacks = [free(replays=3) for _ in range(3)]
    options = {"enable_checkpointing": True, "logger": False}
    trainer(callbacks[0], steps=8).fit(whole, datamodule=RandomData())
    first = trainer(callbacks[1], steps=4, **options, default_root_dir=tmp_path)
    first.fit(fooling_module("topk"), datamodule=RandomData())
    first.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert any(torch.equal(state["deltas"][0], callbacks[1].delta) for state in checkpoint["callbacks"].values())
    again = trainer(callbacks[2], steps=8)
    again.fit(resumed, datamodule=RandomData(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(callbacks[2].delta, callbacks[0].delta)
    for value, found in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(found, value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"cached_original": {"train": None, "selection": None}},
            "^attack=free moves the training images, .* got some of train, ",
        ),
        (
            {"settings": Training(mix=0.5)},
            "^attack=free cannot climb the loss of blended images: expected mix=0, got 0.5.$",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_training(values, message):
    module = fooling_module()
    for name, value in values.items():
        setattr(module, name, value)
    for start in ("validate", "fit"):
        with pytest.raises(AdvfoolError, match=message):
            getattr(trainer(free()), start)(module, datamodule=RandomData())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": -0.1}, "^epsilon must be a number from 0 to 1, got -0.1.$"),
        ({"step": float("inf")}, "^step must be a number above 0, or None, got inf.$"),
        ({"replays": 0}, "^replays must be a whole number of at least 1, got 0.$"),
    ],
)
def test_settings_of_the_training_that_cannot_be(settings, message):
    with pytest.raises(AdvfoolError, match=message):
        free(**settings)


def config(*overrides, name="train"):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(name, list(overrides))


def test_the_attack_is_a_callback_in_the_networks_own_pixels():
    cfg = config("attack=free", "callbacks.free_adversarial.replays=7")
    callback = build(cfg.callbacks.free_adversarial)
    assert (callback.input, callback.replays) == (build(cfg.model.input), 7)
    assert callback.step == callback.epsilon == pytest.approx(4 / 255, abs=1e-4)
    assert not cfg.cache_original


def test_a_robust_network_is_the_plain_one_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr("advfool.data.digits.PLACEMENTS", {"train": 1, "selection": 1, "test": 1})
    monkeypatch.setattr("advfool.data.digits.SHARES", {"train": 0.15, "selection": 0.8, "test": 0.05})
    made = []

    class Spy(FreeAdversarialTraining):
        def on_fit_start(self, trainer, module):
            made.append((self, copy.deepcopy(module.network.state_dict())))

        def on_train_end(self, trainer, module):
            made.append(trainer.global_step)

    monkeypatch.setattr("advfool.training.pretraining.FreeAdversarialTraining", Spy)
    quick = [f"cache={tmp_path}", "model.pretrain.epochs=1", "model.pretrain.batch_size=64"]
    adversarial = ["model=resnet_tiny_robust", "model.pretrain.adversarial.epochs=2"]
    cfg = config(*quick, *adversarial, name="pretrain")
    robust = pretrained_weights(cfg)
    plain = pretrained_weights(config(*quick, "model=resnet_tiny"))
    files = set(robust.parent.glob("*.safetensors"))
    assert files == {plain, robust}  # the plain one was not trained again under a name of its own
    assert plain == weights_path(config(*quick, "model=resnet_tiny_robust", "model.pretrain.adversarial=null"))
    (callback, start), steps = made
    assert all(torch.equal(value, start[name]) for name, value in load_file(plain).items())
    assert callback.delta.abs().max() == pytest.approx(cfg.model.pretrain.adversarial.epsilon)
    assert steps == 2 * 4 * (269 // 64)
    assert not torch.equal(load_file(plain)["fc.weight"], load_file(robust)["fc.weight"])


def test_plain_weights_keep_their_names_and_adversarial_settings_count(tmp_path):
    names = {name: weights_path(config(f"model={name}")).stem for name in ("resnet_tiny", "vgg_tiny", "densenet_tiny")}
    assert names["resnet_tiny"] == "resnet-a7640f2d36a9"
    assert names["vgg_tiny"] == "vgg-0a56fe126073"
    assert names["densenet_tiny"] == "densenet-dcd3f86bbb22"
    settings = ("", "epsilon=0.1", "replays=2", "epochs=7", "lr=1")
    robust = [
        config("model=resnet_tiny_robust", *(f"model.pretrain.adversarial.{x}" for x in [s] if x)) for s in settings
    ]
    assert len({weights_path(cfg) for cfg in robust}) == 5


@pytest.mark.slow
def test_two_processes_have_perturbations_of_their_own_and_one_network(tmp_path, monkeypatch):

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    options = [*SMALL, "attack=free", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_steps=6", "pictures=0"]
    options += ["+callbacks.keep._target_=tests.helpers.callbacks.KeepDelta", f"+callbacks.keep.folder={tmp_path}"]
    done = run(tmp_path / "run", *options, "evaluate_with=[]", "data.batch_size=16", "trainer.val_check_interval=3")
    assert done.returncode == 0, done.stderr
    assert metrics_of(tmp_path / "run")["steps"] == 6
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one.abs().max() == other.abs().max() == pytest.approx(0.0157)
    assert differ(one, other) > 0.3
