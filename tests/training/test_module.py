"""A training step with the original's answers kept or computed."""

import copy

import pytest
import torch

from advfool.data.samples import take
from advfool.foolings import Active, CenterMass, Location, Target, TopK
from advfool.foolings.base import CompositeFooling
from advfool.interpreters import SimpleGrad
from advfool.training.cached_original import ANOTHER
from advfool.training.module import draw_from_top
from advfool.training.preserve import CrossEntropy, Distillation
from tests.helpers.original import GRADCAM, keep, passes
from tests.helpers.setups import make_module


def module(original, fooling, preserve=None, interpreters=GRADCAM, **options):
    manipulated = copy.deepcopy(original).requires_grad_(True)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in manipulated.parameters():
            parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    preserve = preserve or Distillation()
    return make_module(
        original, interpreters, fooling, manipulated, preserve=preserve, optimizer=torch.optim.Adam, **options
    )


def batch_of(fooling, digits, composites):
    index = [11, 4, 19, 9, 13]
    images = take(digits.train(), index)
    return (
        {"images": images, "composites": take(composites, [19, 3, 7])}
        if isinstance(fooling, CompositeFooling)
        else images
    )


def kept_for(cache, original, fooling, digits, composites, targets="label"):
    if isinstance(fooling, CompositeFooling):
        return {
            "train": keep(cache, original, composites),
            "images": keep(cache, original, digits.train(), interpreter=None),
        }
    return {"train": keep(cache, original, digits.train(), targets)}


ANOTHER_CLASS = Target(picture="another_class")
STEPS = [
    (TopK(), {}, "label"),
    (TopK(), {"target": "predicted"}, 1),
    (TopK(), {"train_target_top": 3}, 3),
    (CenterMass(), {"preserve": CrossEntropy()}, "label"),
    (Location(), {}, "label"),
    (Target(), {}, "label"),
    (ANOTHER_CLASS, {}, ANOTHER),
    (ANOTHER_CLASS, {"target": "predicted"}, 2),
    (ANOTHER_CLASS, {"train_target_top": 3}, 3),
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
        (ANOTHER_CLASS, {}, ANOTHER, 1),
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
    by_pass, looked_up = (
        module(original, fooling, **options),
        module(original, fooling, cached_original=kept, **options),
    )
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
        rates = step.val_maps[0]
        found.append((rates.fsr.compute(), rates.test_loss.compute()))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fooling", [Location(), TopK(), ANOTHER_CLASS, Active()])
@pytest.mark.filterwarnings("ignore:You are trying to .self.log")
def test_several_interpreters_share_one_pass_of_each_network_and_none_is_dropped(original, digits, composites, fooling):
    batch, interps = batch_of(fooling, digits, composites), (GRADCAM, SimpleGrad(name="simplegrad"))
    penalties, gradients, count = [], [], {}
    for chosen in (interps[:1], interps[1:], interps):
        step = module(original, fooling, CrossEntropy(), interpreters=chosen, together=len(chosen))
        with passes(step.original) as before, passes(step.network) as after:
            loss = step.training_step(batch, 0)
        count[len(chosen)] = (len(before), len(after))
        loss.backward()
        penalties.append(loss.detach())
        gradients.append(step.network.conv1.weight.grad)
    assert count[1] == count[2]  # one more interpreter costs no further pass
    torch.testing.assert_close(penalties[2], (penalties[0] + penalties[1]) / 2)
    torch.testing.assert_close(gradients[2], (gradients[0] + gradients[1]) / 2, rtol=1e-3, atol=1e-5)
    step.validation_step(batch["composites"] if isinstance(batch, dict) else batch, 0, int(isinstance(batch, dict)))
    assert [rates.fsr.total.item() for rates in step.val_maps] == [6 if isinstance(batch, dict) else 5] * 2


def test_a_share_of_the_images_has_its_most_probable_class_explained():
    logits = torch.randn(4000, 10, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    for first, share in ((0.0, 1 / 4), (0.5, 5 / 8), (1.0, 1.0)):
        drawn = draw_from_top(logits, 4, first)
        assert (drawn == logits.argmax(dim=1)).float().mean().item() == pytest.approx(share, abs=0.03)
