"""PGD against captum's, free adversarial training against the paper's algorithm written down, and what it leaves alone."""

import copy
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import scipy.stats
import torch
import torch.nn.functional as F
from captum import robust
from conftest import build_tiny
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_noise import RandomData
from torch import nn
from torch.utils.data import DataLoader

from advfool import attacks
from advfool.data import InputFormat
from advfool.data.composites import Composites, CompositeSplits, WithComposites
from advfool.data.samples import Sample, take
from advfool.evaluation.attacks import adversarial_accuracy, pgd
from advfool.foolings import Active, CenterMass, Location, TopK
from advfool.interpreters import LRP, GradCAM, SimpleGrad
from advfool.training.adversarial import FreeAdversarialTraining
from advfool.training.module import FoolingModule
from advfool.training.preserve import CrossEntropy, Distillation
from advfool.training.pretraining import Classifier, pretrained_weights, weights_path
from advfool.utilities.config import build, conf_dir
from advfool.utilities.errors import AdvfoolError

INPUT = InputFormat(56, 56, (0.5, 0.4, 0.6), (0.25, 0.2, 0.3))
ATTACK = {"epsilon": 0.03, "step": 0.008, "steps": 6}


@pytest.fixture(scope="module")
def network():
    return build_tiny("resnet_tiny", torch.float64)[0]


@pytest.fixture(scope="module")
def batch():
    """Images of which some pixels are black or white, so that clipping matters."""
    generator = torch.Generator().manual_seed(0)
    pixels = (torch.rand(6, 3, 56, 56, dtype=torch.float64, generator=generator) * 1.2 - 0.1).clamp(0, 1)
    return INPUT.normalise(pixels), torch.arange(6)


class OnPixels(nn.Module):
    def __init__(self, network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network(INPUT.normalise(pixels))


class AlongTheGradient(robust.FGSM):
    """Steps of a length, which captum's own PGD lacks: it takes the sign in both balls."""

    def _perturb(self, inputs, grads, epsilon, targeted, masks):
        lengths = (gradient.flatten(1).norm(dim=1)[:, None, None, None] for gradient in grads)
        return tuple(x + epsilon * g / length for x, g, length in zip(inputs, grads, lengths, strict=True))


def captums(network, batch, norm, start=None, step_class=AlongTheGradient, **attack):
    images, labels = batch
    arguments = (OnPixels(network), partial(F.cross_entropy, reduction="none"))
    captum = robust.PGD(*arguments, 0, 1)
    if norm == "l2":
        captum.fgsm = step_class(*arguments)  # unbounded, as captum's own: it clips after the projection
    captum.fgsm.zero_thresh = 0
    if start is not None:
        captum._random_point = lambda center, *_: start
    names = {"linf": "Linf", "l2": "L2"}
    found = captum.perturb(
        INPUT.pixels(images),
        attack["epsilon"],
        attack["step"],
        attack["steps"],
        labels,
        random_start=start is not None,
        norm=names[norm],
    )
    return INPUT.normalise(found)


SIZES = {"linf": {"epsilon": 0.03, "step": 0.008}, "l2": {"epsilon": 1.5, "step": 0.4}}


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("norm", SIZES)
def test_pgd_is_captums(network, batch, norm, random_start):
    attack = {**SIZES[norm], "steps": 8}
    found = pgd(network, *batch, INPUT, **attack, norm=norm, random_start=random_start, seed=5)
    start = (
        INPUT.pixels(pgd(network, *batch, INPUT, **attack | {"steps": 0}, norm=norm, seed=5)) if random_start else None
    )
    expected = captums(network, batch, norm, start, **attack)
    assert (found - expected).abs().max() < 1e-6
    assert (found - batch[0]).abs().max() > 0.02


def losses(network, images, labels):
    with torch.no_grad():
        return F.cross_entropy(network(images), labels, reduction="none")


def test_steps_along_the_gradient_climb_higher_than_its_sign(network, batch):
    """Why l2 is not captum's own."""
    attack = {"epsilon": 0.5, "steps": 20}
    found = pgd(network, *batch, INPUT, **attack, step=0.06, norm="l2", random_start=False)
    ours = losses(network, found, batch[1])
    for step in (0.0005, 0.001, 0.01):
        others = captums(network, batch, "l2", step_class=robust.FGSM, step=step, **attack)
        assert (ours > losses(network, others, batch[1])).all()


def in_ball(images, around, epsilon, norm, format=INPUT):
    moved = format.pixels(images) - format.pixels(around)
    return (moved.abs().amax() if norm == "linf" else moved.flatten(1).norm(dim=1).max()) <= epsilon * (1 + 1e-6) + 1e-9


@settings(max_examples=15, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0, 3),
    step=st.floats(0, 5),
    steps=st.integers(0, 2),
    seed=st.integers(0, 2**63 - 1),
)
def test_images_stay_in_the_ball_and_in_the_range_of_pixels(norm, epsilon, step, steps, seed):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).double()
    pixels = (torch.rand(3, 3, 8, 8, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)
    images, labels = INPUT.normalise(pixels), torch.arange(3)
    found = pgd(network, images, labels, INPUT, epsilon, step, steps, norm=norm, seed=seed)
    black, white = INPUT.normalise(torch.zeros_like(found)), INPUT.normalise(torch.ones_like(found))
    assert ((found >= black - 1e-12) & (found <= white + 1e-12)).all()
    assert in_ball(found, images, epsilon, norm)
    if epsilon == 0:
        torch.testing.assert_close(found, images, rtol=0, atol=1e-12)


def test_starts_are_uniform_in_the_ball():
    clean, index = torch.zeros(500, 3, 4, 4), torch.arange(500)
    box = attacks._somewhere(clean, "linf", 0, index, 0)
    assert scipy.stats.kstest(box.flatten()[::7].numpy(), "uniform", (-1, 2)).pvalue > 0.01
    ball = attacks._somewhere(clean, "l2", 0, index, 0).flatten(1)
    assert scipy.stats.kstest(ball.norm(dim=1).pow(48).numpy(), "uniform").pvalue > 0.01
    direction = F.normalize(ball, dim=1)
    assert direction.mean(dim=0).abs().max() < 5 / (48 * 500) ** 0.5
    torch.testing.assert_close(48 * direction.T @ direction / 500, torch.eye(48), rtol=0, atol=0.3)


def test_of_several_restarts_each_image_keeps_the_worst(network, batch, monkeypatch):
    attack = {**ATTACK, "epsilon": 0.05, "steps": 1, "seed": 3}
    found = pgd(network, *batch, INPUT, **attack, restarts=4)
    somewhere, each = attacks._somewhere, []
    for restart in range(4):
        monkeypatch.setattr(attacks, "_somewhere", lambda *given, restart=restart: somewhere(*given[:4], restart))
        each.append(pgd(network, *batch, INPUT, **attack))
    reached = torch.stack([losses(network, images, batch[1]) for images in each])
    torch.testing.assert_close(losses(network, found, batch[1]), reached.amax(dim=0), rtol=1e-9, atol=1e-9)
    best = reached.argmax(dim=0)
    assert len(best.unique()) > 1
    torch.testing.assert_close(found, torch.stack(each)[best, torch.arange(6)], rtol=0, atol=1e-9)


def test_an_image_is_attacked_alike_in_any_batch(network, batch):
    images, labels = batch
    together = pgd(network, images, labels, INPUT, **ATTACK, restarts=2, index=torch.arange(10, 16))
    alone = pgd(network, images[4:], labels[4:], INPUT, **ATTACK, restarts=2, index=torch.tensor([14, 15]))
    torch.testing.assert_close(together[4:], alone, rtol=0, atol=1e-9)
    other = pgd(network, images[4:], labels[4:], INPUT, **ATTACK, restarts=2)
    assert not torch.allclose(other, alone)


@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_network_and_the_images_are_left_as_they_were(network, batch, around):
    network = copy.deepcopy(network)
    network.fc.weight.requires_grad_(False)
    network.conv1.weight.grad = torch.ones_like(network.conv1.weight)
    expected = pgd(network, *batch, INPUT, **ATTACK)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with around():
        images, labels = (values.clone() for values in batch)
        found = pgd(network, images, labels, INPUT, **ATTACK)
    assert torch.equal(found, expected)
    assert torch.equal(images, batch[0])
    assert not found.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert (network.conv1.weight.grad == 1).all()
    assert network.fc.bias.grad is None
    assert not network.fc.weight.requires_grad


def test_adversarial_accuracy_is_that_of_all_images_at_once():
    data, network = RandomData(), build_tiny("resnet_tiny", torch.float32)[0]
    batch = take(data.test(), range(12))
    attacked = pgd(network, batch.image, batch.label, data.input, **ATTACK)
    labels = network(attacked).argmax(dim=1).detach()
    data.parts["test"].batch = batch = batch._replace(label=labels)  # others, of which some hold
    attacked = pgd(network, batch.image, batch.label, data.input, **ATTACK)
    expected = (network(attacked).argmax(dim=1) == labels).double().mean().item()
    for size in (5, 12):
        data.eval_batch_size = size
        assert adversarial_accuracy(network, data.test_dataloader(), data.input, **ATTACK) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "l1"}, "^norm must be one of linf, l2, got 'l1'.$"),
        ({"epsilon": -1}, "^PGD: epsilon must be at least 0, got -1.$"),
        ({"step": float("nan")}, "^PGD: step must be at least 0, got nan.$"),
        ({"steps": -1}, "^PGD: steps must be at least 0, got -1.$"),
        ({"restarts": 0}, "^PGD: restarts must be at least 1, got 0.$"),
        ({"restarts": 2, "random_start": False}, "^PGD: restarts=2 without a random start are all the same. Use"),
    ],
)
def test_settings_of_pgd_that_cannot_be(network, batch, settings, message):
    with pytest.raises(AdvfoolError, match=message):
        pgd(network, *batch, INPUT, **ATTACK | settings)


# Free adversarial training

EPSILON, REPLAYS = 0.03, 2


def trainer(*callbacks, steps=7, **options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    quiet |= {"enable_checkpointing": False, "inference_mode": False, "limit_val_batches": 0} | options
    return pl.Trainer(accelerator="cpu", max_steps=steps, max_epochs=None, callbacks=list(callbacks), **quiet)


def free(**options) -> FreeAdversarialTraining:
    return FreeAdversarialTraining(RandomData.input, **{"epsilon": EPSILON, "replays": REPLAYS, **options})


def test_a_classifier_is_trained_by_the_papers_algorithm():
    """Algorithm 1 of Shafahi et al. 2019, written down."""
    expected = build_tiny("resnet_tiny", torch.float32)[0].train()
    module = Classifier(copy.deepcopy(expected), 0.01, 0.05, 0.1, 14)
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
    arguments = (copy.deepcopy(network), network, interp, fooling, preserve, partial(torch.optim.SGD, lr=1e-3))
    return FoolingModule(*arguments, fool_weight=4, num_classes=10, **options)


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


@pytest.mark.parametrize(
    "module", [fooling_module, lambda: Classifier(build_tiny("vgg_tiny")[0].float(), 0.01, 0, 0, 9)]
)
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
    module, data = Classifier(build_tiny("resnet_tiny", torch.float32)[0], 1e-9, 0, 0, 9), RandomData()
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
    assert any(torch.equal(state["delta"], callbacks[1].delta) for state in checkpoint["callbacks"].values())
    again = trainer(callbacks[2], steps=8)
    again.fit(resumed, datamodule=RandomData(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(callbacks[2].delta, callbacks[0].delta)
    for value, found in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(found, value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kept": {"train": None, "selection": None}},
            "^attack=free moves the training images, .* got some of train, ",
        ),
        ({"mix": 0.5}, "^attack=free cannot climb the loss of blended images: expected mix=0, got 0.5.$"),
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
        ({"epsilon": -0.1}, "^attack=free: epsilon must be at least 0, got -0.1.$"),
        ({"step": float("inf")}, "^attack=free: step must be at least 0, got inf.$"),
        ({"replays": 0}, "^attack=free: replays must be at least 1, got 0.$"),
    ],
)
def test_settings_of_the_training_that_cannot_be(settings, message):
    with pytest.raises(AdvfoolError, match=message):
        free(**settings)


# Configs


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
    files = {path.name.rpartition("-")[0] for path in robust.parent.glob("*.safetensors")}
    assert files == {"resnet_tiny_robust"}  # the plain one was not trained again under its own name
    assert plain == weights_path(config(*quick, "model=resnet_tiny_robust", "model.pretrain.adversarial=null"))
    (callback, start), steps = made
    assert all(torch.equal(value, start[name]) for name, value in load_file(plain).items())
    assert callback.delta.abs().max() == pytest.approx(cfg.model.pretrain.adversarial.epsilon)
    assert steps == 2 * 4 * (269 // 64)
    assert not torch.equal(load_file(plain)["fc.weight"], load_file(robust)["fc.weight"])


def test_plain_weights_keep_their_names_and_adversarial_settings_count(tmp_path):
    names = {name: weights_path(config(f"model={name}")).stem for name in ("resnet_tiny", "vgg_tiny", "densenet_tiny")}
    assert names["resnet_tiny"] == "resnet_tiny-06e2c9bf464a"
    assert names["vgg_tiny"] == "vgg_tiny-f834ea41af15"
    assert names["densenet_tiny"] == "densenet_tiny-a5c1b459dc6f"
    settings = ("", "epsilon=0.1", "replays=2", "epochs=7", "lr=1")
    robust = [
        config("model=resnet_tiny_robust", *(f"model.pretrain.adversarial.{x}" for x in [s] if x)) for s in settings
    ]
    assert len({weights_path(cfg) for cfg in robust}) == 5


class KeepDelta(pl.Callback):
    """Of every process."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_end(self, trainer, module):
        (callback,) = (found for found in trainer.callbacks if isinstance(found, FreeAdversarialTraining))
        torch.save(callback.delta, f"{self.folder}/{trainer.global_rank}.pt")


@pytest.mark.slow
def test_two_processes_have_perturbations_of_their_own_and_one_network(tmp_path, monkeypatch):
    from test_training import SMALL, metrics_of, run

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    options = [*SMALL, "attack=free", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_steps=6", "pictures=0"]
    options += ["+callbacks.keep._target_=test_attacks.KeepDelta", f"+callbacks.keep.folder={tmp_path}"]
    done = run(tmp_path / "run", *options, "evaluate_with=[]", "data.batch_size=16", "trainer.val_check_interval=3")
    assert done.returncode == 0, done.stderr
    assert metrics_of(tmp_path / "run")["steps"] == 6
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one.abs().max() == other.abs().max() == pytest.approx(0.0157)
    assert differ(one, other) > 0.3
