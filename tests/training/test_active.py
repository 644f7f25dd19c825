"""Training with composites: the penalty on them, the classification on the ordinary images."""

import copy

import pytest
import torch
import torch.nn.functional as F

from advfool.data import DigitsModule, InputFormat
from advfool.data.composites import composite_splits
from advfool.data.samples import take
from advfool.foolings import Active
from advfool.interpreters import GradCAM
from advfool.interpreters.base import read_maps
from advfool.interpreters.tracing.recording import record
from advfool.training.preserve import CrossEntropy, Distillation
from advfool.utilities.errors import AdvfoolError
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_module

FORMAT = InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3)


C1, C2 = 3, 8


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("advfool.data.digits.PLACEMENTS", {"train": 1, "selection": 1, "test": 1})
        yield str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def digits(cache):
    return DigitsModule(FORMAT, cache, batch_size=16, eval_batch_size=32)


@pytest.fixture(scope="module")
def splits(digits):
    return composite_splits(digits, (C1, C2), train=120, test=60)


@pytest.fixture(scope="module")
def original():
    network, layer = build_tiny("resnet_tiny", torch.float32)
    return network, GradCAM(name="gradcam", layer=layer, training_leak=0.1)


@pytest.fixture
def networks(original):
    """The original, a network beside it, and what explains them."""
    network, interpreter = original
    manipulated = copy.deepcopy(network).requires_grad_(True)
    with torch.no_grad():
        for parameter in manipulated.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    return network, manipulated, interpreter


def fooling_module(networks, **options):
    original, manipulated, interpreter = networks
    options = {"preserve": CrossEntropy(), "optimizer": torch.optim.Adam} | options
    return make_module(original, interpreter, Active(), manipulated, **options)


@pytest.mark.parametrize("preserve", [CrossEntropy(), Distillation(4.0)])
@pytest.mark.filterwarnings("ignore:You are trying to .self.log")
def test_the_penalty_is_of_the_composites_and_the_classification_of_the_images(networks, digits, splits, preserve):
    original, manipulated, interpreter = networks
    images, composites = take(digits.train(), range(12)), take(splits.train, range(6))
    loss = fooling_module(networks, preserve=preserve, fool_weight=2.5).training_step(
        {"images": images, "composites": composites}, 0
    )
    with torch.no_grad():
        logits, theirs = manipulated(images.image), original(images.image)
        originals = [interpreter(original, composites.image, c) for c in (C1, C2)]
        ours = [interpreter.for_training()(manipulated, composites.image, c) for c in (C1, C2)]
    expected = F.cross_entropy(logits, images.label)
    if isinstance(preserve, Distillation):
        p, q = (x.double().div(4).softmax(dim=1) for x in (theirs, logits))
        expected = (16 * (p * (p / q).log()).sum(dim=1).mean()).float()
    pairs = ((ours[0], originals[1]), (ours[1], originals[0]))
    penalty = sum(0.5 * (a - b).square().mean(dim=(1, 2)) for a, b in pairs).mean()
    torch.testing.assert_close(loss.detach(), expected + 2.5 * penalty, rtol=1e-5, atol=1e-6)
    loss.backward()
    assert all(p.grad is None for p in original.parameters())
    assert any(p.grad.abs().sum() > 0 for p in manipulated.parameters() if p.grad is not None)


def test_validation_counts_accuracy_on_images_and_fooling_on_composites(networks, digits, splits):
    original, manipulated, interpreter = networks
    module = fooling_module(networks)
    images, composites = take(digits.selection(), range(30)), take(splits.selection, range(20))
    module.validation_step(images, 0, 0)
    assert module.val_maps[0].fsr.total == 0
    module.validation_step(composites, 0, 1)
    assert module.val_top1.compute() == (manipulated(images.image).argmax(dim=1) == images.label).float().mean()
    ours, theirs = (
        read_maps(interpreter, record(network, composites.image, [interpreter]), composites.label).detach()
        for network in (manipulated, original)
    )
    test_loss = Active().test_loss(ours, theirs)
    torch.testing.assert_close(module.val_maps[0].test_loss.compute(), test_loss.nanmean())
    assert module.val_maps[0].fsr.total == 40  # each composite counts for both classes
    assert module.val_maps[0].fsr.compute() == ((test_loss >= 0.5) & (test_loss <= 2)).float().mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix": 0.5}, "mix=0.5: composites cannot be blended. Use mix=0 with fooling=active."),
        (
            {"train_target_top": 2},
            "train_target_top=2: composites explain both their classes. Use train_target_top=null with fooling=active.",
        ),
    ],
)
def test_what_does_not_go_with_composites(networks, options, message):
    original, manipulated, interpreter = networks
    with pytest.raises(AdvfoolError) as error:
        make_module(original, interpreter, Active(name="active"), manipulated, preserve=Distillation(), **options)
    assert str(error.value) == message
