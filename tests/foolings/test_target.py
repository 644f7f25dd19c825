"""Target fooling against loops with scipy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from scipy.stats import ConstantInputWarning, pearsonr, spearmanr

from advfool.foolings import Target
from advfool.utilities.errors import AdvfoolError
from tests.helpers.foolings import EMPTY, fooled, maps, seeds, shapes

ANOTHER = Target(picture="another_class")


def by_scipy(heatmaps, own, targets):
    """The test loss of each image."""
    return torch.tensor(
        [
            spearmanr(h.ravel(), t.ravel()).statistic - spearmanr(h.ravel(), o.ravel()).statistic
            for h, o, t in zip(heatmaps.numpy(), own.numpy(), targets.numpy(), strict=True)
        ],
        dtype=torch.float64,
    )


@given(shapes, seeds)
@settings(max_examples=40)
def test_the_test_loss_is_that_of_a_loop_with_scipy(shape, seed):
    fooling = Target()
    heatmaps, original = maps(fooling, *shape, seed)
    heatmaps, original = heatmaps.mul(6).round(), original.mul(9).round()  # ties
    targets = fooling.target(*heatmaps.shape[1:]).expand_as(heatmaps)
    expected = by_scipy(heatmaps, original, targets)
    torch.testing.assert_close(fooling.test_loss(heatmaps, original), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fooling.test_loss(heatmaps[:1], original[:1]), expected[:1], rtol=1e-10, atol=1e-10)


def test_the_test_loss_to_another_class_is_that_of_a_loop_with_scipy():
    heatmaps, both = maps(ANOTHER, signed=True)
    expected = by_scipy(heatmaps, both[:, 0], both[:, 1])
    torch.testing.assert_close(ANOTHER.test_loss(heatmaps, both), expected, rtol=1e-10, atol=1e-10)


def test_the_penalty_is_the_squared_distance_of_standardised_maps():
    for fooling in (Target(), ANOTHER):
        heatmaps, original = maps(fooling, signed=True)
        targets = original[:, 1] if fooling is ANOTHER else fooling.target(7, 9).expand_as(heatmaps)
        expected = []
        for h, t in zip(heatmaps.numpy(), targets.numpy(), strict=True):
            expected.append((((h - h.mean()) / h.std() - (t - t.mean()) / t.std()) ** 2).mean())
            assert expected[-1] == pytest.approx(2 - 2 * pearsonr(h.ravel(), t.ravel()).statistic)
        found = fooling.penalty(heatmaps, original)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
        torch.testing.assert_close(fooling.penalty(0.01 * heatmaps + 3, original), found)  # neither scale nor offset


def test_the_target_itself_is_fooled_and_the_original_map_is_not():
    for fooling in (Target(), ANOTHER):
        heatmaps, original = maps(fooling)
        own = original[:, 0] if fooling is ANOTHER else original
        target = original[:, 1] if fooling is ANOTHER else fooling.target(7, 9).expand_as(heatmaps)
        torch.testing.assert_close(fooling.penalty(target, original), torch.zeros(5).double(), rtol=0, atol=1e-12)
        assert fooled(fooling, fooling.test_loss(target, original)) == [True] * 5
        null = fooling.test_loss(own, original)  # without an attack
        assert (null <= 0).all()
        torch.testing.assert_close(null, by_scipy(own, own, target), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("value", EMPTY.values(), ids=EMPTY)
@pytest.mark.filterwarnings("error")
def test_a_constant_map_of_another_class_is_neither_trained_on_nor_fooled(value):
    heatmaps, original = maps(ANOTHER)
    original[2, 1] = value
    assert ANOTHER.test_loss(heatmaps, original).isnan().tolist() == [False, False, True, False, False]
    heatmaps.requires_grad_()
    penalty = ANOTHER.penalty(heatmaps, original)
    penalty.sum().backward()
    assert penalty[2] == 0
    assert heatmaps.grad[2].abs().max() == 0
    assert heatmaps.grad.isfinite().all()


def test_scipy_has_no_correlation_with_constant_maps_either():
    with pytest.warns(ConstantInputWarning):
        assert math.isnan(spearmanr([1, 1, 1], [1, 2, 3]).statistic)


def test_gradients_of_nearly_constant_maps_stay_bounded():
    heatmaps, original = maps(Target())
    heatmaps = (1 + 1e-9 * heatmaps).requires_grad_()
    Target().penalty(heatmaps, original).sum().backward()
    assert heatmaps.grad.abs().max() < 1e3


# Pictures.


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def test_the_same_picture_in_any_form_is_the_same_target(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (14, 28)).astype(np.uint8)
    forms = [values, torch.from_numpy(values), values.tolist(), values / 255, 3.5 * torch.from_numpy(values).float()]
    forms += [saved(tmp_path / "grey.png", values), saved(tmp_path / "colours.png", np.stack([values] * 3, -1))]
    forms += [saved(tmp_path / "deep.png", values.astype(np.uint16) * 257)]
    for form in forms:
        target = Target(picture=form).target(7, 7)
        torch.testing.assert_close(target, Target(picture=values).target(7, 7), rtol=0, atol=1e-5)
        assert (target.amin(), target.amax()) == (0, 1)


def test_a_given_tensor_is_kept_as_numbers_that_can_be_compared_and_changed():
    picture = torch.eye(8)
    fooling = Target(picture=picture)
    picture.zero_()
    assert fooling == Target(picture=np.eye(8)) != Target()
    assert hash(fooling) == hash(Target(picture=np.eye(8)))
    assert fooling.target(8, 8).equal(torch.eye(8).double())


def test_signed_values_keep_their_signs():
    target = Target(picture=[[-2, 0], [1, 0.5]]).target(2, 2)
    assert target.tolist() == [[-1, 0], [0.5, 0.25]]


@pytest.mark.parametrize("size", [(7, 7), (14, 9), (56, 56), (224, 160)])
def test_equal_values_of_a_picture_stay_equal_at_any_size(size):
    picture = torch.ones(64, 48)
    picture[:, :24] = 0.1
    target = Target(picture=picture).target(*size)
    assert len(target[:, 0].unique()) == len(target[:, -1].unique()) == 1
    assert (target[0, 0], target[0, -1]) == (0, 1)
    assert len(target.unique()) <= size[1]


@pytest.mark.parametrize("size", [(7, 7), (4, 6), (14, 14), (57, 31), (224, 224)])
def test_the_cross_has_one_form_at_every_size(size):
    target = Target().target(*size)
    assert target.shape == size
    assert target.equal(target.flip(0))
    assert target.equal(target.flip(1))
    assert target.max() == 1
    assert target[0, 0] > 0.99
    assert target[0, size[1] // 2] < 0.3


def test_what_is_no_picture_is_refused(tmp_path):
    damaged = tmp_path / "damaged.png"
    saved(damaged, np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    damaged.write_bytes(damaged.read_bytes()[:2000])
    script = tmp_path / "script.eps"
    script.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for wrong in (str(tmp_path), str(damaged), str(script), str(text), "nowhere.png", "/dev/zero", "crss"):
        with pytest.raises(AdvfoolError, match="^fooling.picture must be 'cross', 'another_class', a picture file"):
            Target(picture=wrong)
    for wrong in (3, None, "", [], [["a"]], [[1, math.nan]], torch.rand(2, 2, dtype=torch.complex64), True):
        with pytest.raises(AdvfoolError, match="picture must be 'cross', 'another_class', a picture file"):
            Target(picture=wrong)
    for wrong in ([[1, 2], [3]], torch.rand(3, 4, 4), torch.rand(5), torch.zeros(0, 4)):
        with pytest.raises(AdvfoolError, match="picture must be 'cross', 'another_class', a picture file"):
            Target(picture=wrong)
    for wrong in (math.nan, math.inf):
        with pytest.raises(AdvfoolError, match="must have finite values"):
            Target(picture=torch.tensor([[0, wrong]]))


def test_a_picture_that_says_nothing_is_refused(tmp_path):
    for constant in (
        saved(tmp_path / "white.png", np.full((9, 9), 255, np.uint8)),
        torch.zeros(4, 4),
        [[2, 2], [2, 2]],
    ):
        with pytest.raises(AdvfoolError, match="constant: nothing says where the relevance shall go"):
            Target(picture=constant)
    fine = torch.tensor([[0.0, 1], [1, 0]]).repeat(28, 28)  # a checkerboard that coarse maps cannot show
    heatmaps, original = maps(Target())
    for measure in (Target(picture=fine).penalty, Target(picture=fine).test_loss):
        with pytest.raises(AdvfoolError, match="constant when it is resized to a heatmap of 7x7"):
            measure(heatmaps[..., :7], original[..., :7])


def test_another_class_needs_its_map():
    heatmaps, original = maps(ANOTHER)
    for given_maps in (None, original[:, 0]):
        with pytest.raises(AdvfoolError, match=r"expected maps of shape \(5, 2, 7, 9\)"):
            ANOTHER.test_loss(heatmaps, given_maps)
    with pytest.raises(AdvfoolError, match="differs from image to image"):
        ANOTHER.target(7, 7)


def test_another_class_is_the_most_probable_one_that_is_not_explained():
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0]]).expand(4, 4)
    assert ANOTHER.compared_classes(torch.arange(4), logits).tolist() == [[0, 1], [1, 2], [2, 1], [3, 1]]
    assert Target().compared_classes(torch.arange(4), None).tolist() == [0, 1, 2, 3]
    with pytest.raises(AdvfoolError, match="at least two classes"):
        ANOTHER.compared_classes(torch.zeros(2).long(), torch.zeros(2, 1))
