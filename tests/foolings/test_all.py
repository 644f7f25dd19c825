"""What all foolings promise."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advfool.foolings import Active, CenterMass, Location, Target, TopK
from advfool.foolings.base import CompositeFooling
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise
from tests.helpers.foolings import EMPTY, LOCATIONS, by_equation_4, each, fooled, maps, seeds, shapes

COMPARING = {
    "topk": TopK(),
    "topk_squares": TopK(k=25, p=2),
    "center_mass": CenterMass(),
    "center_mass_l2": CenterMass(test_norm=2),
    "active": Active(),
    "target": Target(),
    "another_class": Target(picture="another_class"),
}


FOOLINGS = LOCATIONS | COMPARING


names = st.sampled_from(sorted(FOOLINGS))


def test_what_counts_as_fooled_and_what_is_needed():
    promises = {
        Location: ((0, 0.2), False, False),
        TopK: ((0, 0.3), True, False),
        CenterMass: ((0.1, 1), True, False),
        Active: ((0.5, 2), True, True),
        Target: ((0.5, 2), True, False),
    }
    for kind, expected in promises.items():
        fooling = kind()
        assert (fooling.interval, fooling.needs_original, isinstance(fooling, CompositeFooling)) == expected


@pytest.mark.parametrize("name", FOOLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_is_one_value_for_each_image_in_the_maps_precision(name, dtype):
    fooling = FOOLINGS[name]
    heatmaps, original = (values.to(dtype) for values in maps(fooling))
    penalty, test_loss = fooling.penalty(heatmaps, original), fooling.test_loss(heatmaps, original)
    assert (penalty.shape, penalty.dtype) == ((5,), dtype)
    assert (test_loss.shape, test_loss.dtype) == ((5, 2) if isinstance(fooling, CompositeFooling) else (5,), dtype)


@given(names, shapes, seeds, st.booleans())
@settings(max_examples=60)
def test_an_image_alone_has_the_value_it_has_in_a_batch(name, shape, seed, signed):
    fooling = FOOLINGS[name]
    heatmaps, original = maps(fooling, *shape, seed, signed)
    for measure in (fooling.penalty, fooling.test_loss):
        alone = torch.cat([measure(h[None], r[None]) for h, r in zip(heatmaps, original, strict=True)])
        torch.testing.assert_close(measure(heatmaps, original), alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(measure(heatmaps.flip(0), original.flip(0)), alone.flip(0), rtol=1e-12, atol=1e-12)


RANGES = {"topk": (0, 1), "topk_squares": (0, 1), "center_mass": (0, 1), "center_mass_l2": (0, 1), "active": (-2, 2)}
RANGES |= {"target": (-2, 2), "another_class": (-2, 2)}


@given(names, shapes, seeds, st.booleans())
@settings(max_examples=60)
def test_values_stay_in_their_range(name, shape, seed, signed):
    fooling = FOOLINGS[name]
    heatmaps, original = maps(fooling, *shape, seed, signed)
    low, high = RANGES.get(name, (0, 1))
    test_loss = fooling.test_loss(heatmaps, original)
    assert ((test_loss >= low) & (test_loss <= high)).all()
    sign = -1 if isinstance(fooling, CenterMass) else 1
    assert (sign * fooling.penalty(heatmaps, original) >= 0).all()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", FOOLINGS)
def test_the_penalty_has_its_own_gradient(name, signed):
    fooling = FOOLINGS[name]
    heatmaps, original = maps(fooling, 2, 7, 8, signed=signed)
    assert heatmaps.abs().min() > 1e-5  # no kink nearby
    assert torch.autograd.gradcheck(lambda h: fooling.penalty(h, original), heatmaps.requires_grad_())


@pytest.mark.parametrize("name", FOOLINGS)
def test_a_step_against_the_gradient_lowers_the_penalty(name):
    fooling = FOOLINGS[name]
    heatmaps, original = maps(fooling)
    values = []
    for _ in range(5):
        heatmaps = heatmaps.detach().requires_grad_()
        penalty = fooling.penalty(heatmaps, original)
        (gradient,) = torch.autograd.grad(penalty.sum(), heatmaps)
        values.append(penalty.sum().item())
        heatmaps = heatmaps - 0.1 * gradient
    assert all(after < before for before, after in pairwise(values))


@pytest.mark.parametrize("name", FOOLINGS)
def test_the_reference_never_carries_gradient_and_the_test_loss_has_none(name):
    fooling = FOOLINGS[name]
    heatmaps, original = (values.requires_grad_() for values in maps(fooling))
    fooling.penalty(heatmaps, original).sum().backward()
    assert heatmaps.grad.abs().sum() > 0
    assert original.grad is None
    test_loss = fooling.test_loss(heatmaps, original)
    assert not test_loss.requires_grad
    assert original.grad is None


@pytest.mark.parametrize("name", FOOLINGS)
def test_maps_are_left_as_they_are(name):
    fooling = FOOLINGS[name]
    heatmaps, original = maps(fooling, signed=True)
    copies = heatmaps.clone(), original.clone()
    fooling.penalty(heatmaps, original)
    fooling.test_loss(heatmaps, original)
    assert torch.equal(heatmaps, copies[0])
    assert torch.equal(original, copies[1])


@pytest.mark.parametrize("value", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("network", ["manipulated", "original"])
@pytest.mark.parametrize("name", COMPARING)
def test_degenerate_maps_of_either_network_are_never_fooled_but_can_be_trained_on(name, network, value):
    fooling = COMPARING[name]
    heatmaps, original = maps(fooling)
    usual = fooling.test_loss(heatmaps, original)
    (heatmaps if network == "manipulated" else original)[1] = value
    test_loss = fooling.test_loss(heatmaps, original)
    assert test_loss[1].isnan().all()
    assert not np.any(fooled(fooling, test_loss)[1])
    others = [0, 2, 3, 4]
    assert torch.equal(test_loss[others], usual[others])
    heatmaps.requires_grad_()
    penalty = fooling.penalty(heatmaps, original)
    penalty.sum().backward()
    assert penalty.isfinite().all()
    assert heatmaps.grad.isfinite().all()


@pytest.mark.parametrize("network", [0, 1], ids=["manipulated", "original"])
@pytest.mark.parametrize("name", ["topk", "topk_squares", "center_mass", "center_mass_l2"])
def test_a_map_without_positive_relevance_is_degenerate_once_rectified(name, network):
    fooling = COMPARING[name]
    pair = maps(fooling)
    pair[network][2] *= -1
    assert fooling.test_loss(*pair).isnan().tolist() == [False, False, True, False, False]
    pair[0].requires_grad_()
    fooling.penalty(*pair).sum().backward()
    assert pair[0].grad.isfinite().all()


@pytest.mark.parametrize("network", [0, 1], ids=["manipulated", "original"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", COMPARING)
def test_maps_that_are_not_finite_are_never_fooled(name, value, network):
    fooling = COMPARING[name]
    pair = maps(fooling)
    pair[network][3, ..., 4, 4] = value
    test_loss = fooling.test_loss(*pair)
    assert test_loss[3].isnan().all()
    assert not test_loss[[0, 1, 2, 4]].isnan().any()


@pytest.mark.parametrize("how", ["max", "minmax"])
@pytest.mark.parametrize("name", FOOLINGS)
def test_gradients_stay_finite_through_the_normalisation_of_an_empty_map(name, how):
    fooling = FOOLINGS[name]
    heatmaps, original = maps(fooling)
    heatmaps[0] = 0
    heatmaps.requires_grad_()
    scaled = normalise(heatmaps.flatten(0, -3), how).view(heatmaps.shape)
    fooling.penalty(scaled, original).sum().backward()
    assert heatmaps.grad.isfinite().all()


@pytest.mark.parametrize("name", ["topk", "topk_squares", "center_mass", "center_mass_l2", *LOCATIONS])
def test_signed_maps_are_rectified_and_normalised_before_the_test_loss(name):
    fooling = FOOLINGS[name]
    pair = maps(fooling, signed=True)
    signed = [0.3 * values for values in pair]
    rectified = [values.clamp_min(0) / values.amax(dim=(1, 2), keepdim=True) for values in pair]
    torch.testing.assert_close(fooling.test_loss(*signed), fooling.test_loss(*rectified))
    positive = [0.3 * values.abs() for values in pair]  # these are as their interpreter normalised them
    if name == "topk":
        expected = each(by_equation_4, *positive, fooling.k, fooling.p)
        torch.testing.assert_close(fooling.test_loss(*positive), expected)


@pytest.mark.parametrize("fooling", [TopK(), CenterMass(), Active(), Target()])
def test_a_reference_of_another_shape_is_refused_with_both(fooling):
    shape = (2, 2, 7, 7) if isinstance(fooling, CompositeFooling) else (2, 7, 7)
    maps, other = torch.rand(shape), torch.rand(*shape[:-2], 14, 14)
    for measure in (fooling.penalty, fooling.test_loss):
        for original, got in ((other, tuple(other.shape)), (None, None)):
            with pytest.raises(AdvfoolError) as error:
                measure(maps, original)
            assert str(error.value) == (
                "This fooling compares with the original network's heatmaps: expected maps of shape "
                f"{shape}, got {got}."
            )


# Options.


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TopK(interval=[0.3, 0]), "interval must be [lowest, highest] test loss, got [0.3, 0]."),
        (lambda: TopK(interval=[0.3]), "interval must be [lowest, highest] test loss, got [0.3]."),
        (
            lambda: Location(interval=[0, math.nan]),
            "interval must be [lowest, highest] test loss, got [0, nan].",
        ),
        (lambda: TopK(k=0), "k must be a percentage of the map's positions, above 0 to 100, got 0."),
        (lambda: TopK(k=101), "k must be a percentage of the map's positions, above 0 to 100, got 101."),
        (lambda: TopK(k=math.nan), "k must be a percentage of the map's positions, above 0 to 100, got nan."),
        (lambda: TopK(p=3), "p must be one of 1, 2, got 3."),
        (lambda: CenterMass(test_norm=0), "test_norm must be one of 1, 2, got 0."),
        (lambda: Location(inside=1), "inside must be one of 0, -1, got 1."),
        (
            lambda: Location(box=[0, 0, 1.2, 1]),
            "box must be [top, left, bottom, right] as fractions of the image's sides, from 0 to 1, or None, "
            "got [0, 0, 1.2, 1].",
        ),
        (
            lambda: Location(box=[0.5, 0, 0.5, 1]),
            "box must be [top, left, bottom, right] as fractions of the image's sides, from 0 to 1, or None, "
            "got [0.5, 0, 0.5, 1].",
        ),
        (
            lambda: Location(box=[0, 0, 1]),
            "box must be [top, left, bottom, right] as fractions of the image's sides, from 0 to 1, or None, "
            "got [0, 0, 1].",
        ),
        (
            lambda: Location(mask="edge"),
            "fooling.mask must be 'frame', 'corner' or a picture file (white: where the relevance shall go), got "
            "'edge': [Errno 2] No such file or directory: 'edge'.",
        ),
        (lambda: Active(train=0), "train must be a whole number of at least 1, got 0."),
        (lambda: Active(test=-3), "test must be a whole number of at least 1, got -3."),
        (lambda: Active(batch_size=0), "batch_size must be a whole number of at least 1, got 0."),
    ],
)
def test_bad_options(build, message):
    with pytest.raises(AdvfoolError) as error:
        build()
    assert str(error.value) == message


def test_both_ends_of_an_interval_may_be_equal_and_given_as_any_sequence():
    assert Location(interval=[0, 0]).interval == (0.0, 0.0)
    assert Active(interval=range(1, 3)).interval == (1.0, 2.0)
