"""The foolings against their formulas, written out in loops, and what all of them promise."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import spearmanr

from advfool.foolings import Active, CenterMass, Location, TopK
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise

BOX = (0.1, 0.3, 0.65, 1.0)
LOCATIONS = {
    "frame": Location(),
    "corner": Location(mask="corner"),
    "box": Location(box=BOX),
    "box_inside": Location(box=BOX, inside=-1),
}
COMPARING = {
    "topk": TopK(),
    "topk_squares": TopK(k=25, p=2),
    "center_mass": CenterMass(),
    "center_mass_l2": CenterMass(test_norm=2),
    "active": Active(),
}
FOOLINGS = LOCATIONS | COMPARING

shapes = st.tuples(st.integers(1, 4), st.integers(7, 10), st.integers(7, 10))
seeds = st.integers(0, 10_000)
names = st.sampled_from(sorted(FOOLINGS))


def maps(fooling, n=5, height=7, width=9, seed=0, signed=False):
    """Heatmaps of the manipulated and of the original network, in [0, 1], or [-1, 1] where signed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, 2, height, width) if fooling.needs_composites else (n, height, width)
    found = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    return (2 * found - 1 if signed else found).unbind()


def fooled(fooling, test_loss):
    low, high = fooling.interval
    return ((test_loss >= low) & (test_loss <= high)).tolist()


def picture(path, values: np.ndarray) -> str:
    Image.fromarray(values).save(path)
    return str(path)


# The formulas.


def by_equation_3(heatmap, mask):
    total = 0.0
    for place in np.ndindex(*heatmap.shape):
        total += (heatmap[place] - mask[place]) ** 2
    return total / heatmap.size


def by_equation_4(heatmap, original, k, p):
    """The mean instead of the paper's sum; ties by index."""
    places = sorted(np.ndindex(*original.shape), key=lambda place: (-original[place], place))
    top = places[: math.ceil(Fraction(str(k)) * len(places) / 100)]
    return sum(abs(heatmap[place]) ** p for place in top) / len(top)


def centre_of_mass(heatmap):
    row = col = total = 0.0
    for place in np.ndindex(*heatmap.shape):
        row, col = row + place[0] * heatmap[place], col + place[1] * heatmap[place]
        total += heatmap[place]
    return row / total, col / total


def by_equation_5(heatmap, original, norm=1):
    moved = [abs(a - b) for a, b in zip(centre_of_mass(heatmap), centre_of_mass(original), strict=True)]
    return sum(moved) if norm == 1 else sum(m**2 for m in moved) ** 0.5


def by_equation_8(heatmaps, originals):
    def mse(a, b):
        return sum((a[place] - b[place]) ** 2 for place in np.ndindex(*a.shape)) / a.size

    return 0.5 * (mse(heatmaps[0], originals[1]) + mse(originals[0], heatmaps[1]))


def by_equation_9(heatmaps, originals):
    def s(a, b):
        return spearmanr(heatmaps[a].ravel(), originals[b].ravel()).statistic

    return [s(0, 1) - s(0, 0), s(1, 0) - s(1, 1)]


def each(oracle, heatmaps, reference, *options):
    pairs = zip(heatmaps.numpy(), reference.numpy(), strict=True)
    return torch.tensor([oracle(*pair, *options) for pair in pairs], dtype=torch.float64)


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("k", [10, 0.1, 33.3, 100])
def test_topk_is_equation_4(shape, k, p):
    fooling = TopK(k=k, p=p)
    heatmaps, reference = maps(fooling, 4, *shape)
    expected = each(by_equation_4, heatmaps, reference, k, p)
    torch.testing.assert_close(fooling.penalty(heatmaps, reference), expected)
    torch.testing.assert_close(fooling.test_loss(heatmaps, reference), expected)


def test_topk_takes_the_first_of_equal_places():
    fooling = TopK()
    heatmaps, reference = maps(fooling, 20, 8, 8)
    reference = (reference * 2).round() / 2  # three values only
    torch.testing.assert_close(
        fooling.penalty(heatmaps, reference), each(by_equation_4, heatmaps, reference, fooling.k, fooling.p)
    )


def test_topk_penalises_negative_relevance_at_the_top_places_of_the_signed_map():
    fooling = TopK()
    heatmaps, reference = maps(fooling, signed=True)
    expected = each(by_equation_4, heatmaps, reference, fooling.k, fooling.p)
    assert (heatmaps < 0).any()
    torch.testing.assert_close(fooling.penalty(heatmaps, reference), expected)


def test_emptying_the_top_places_is_fooled_and_emptying_all_others_is_not():
    fooling = TopK()
    _, reference = maps(fooling)
    flat = reference.flatten(1)
    count = math.ceil(0.1 * flat.shape[1])
    top = (flat >= flat.sort(descending=True).values[:, count - 1 : count]).view(reference.shape)
    emptied = torch.where(top, 0.0, reference)
    assert fooling.test_loss(emptied, reference).tolist() == [0.0] * 5
    assert fooled(fooling, fooling.test_loss(emptied, reference)) == [True] * 5
    assert fooled(fooling, fooling.test_loss(torch.where(top, 1.0, 0.0).double(), reference)) == [False] * 5


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
def test_center_mass_is_equation_5(shape):
    heatmaps, reference = maps(CenterMass(), 4, *shape)
    expected = each(by_equation_5, heatmaps, reference)
    torch.testing.assert_close(CenterMass().penalty(heatmaps, reference), -expected)
    diagonal = math.hypot(*shape)
    torch.testing.assert_close(CenterMass().test_loss(heatmaps, reference), expected / diagonal)
    l2 = CenterMass(test_norm=2)
    torch.testing.assert_close(l2.penalty(heatmaps, reference), -expected)  # the option is of the test loss alone
    expected = each(by_equation_5, heatmaps, reference, 2)
    torch.testing.assert_close(l2.test_loss(heatmaps, reference), expected / diagonal)


def test_mass_from_corner_to_corner_counts_as_one_diagonal_at_most():
    here, there = torch.zeros(2, 1, 7, 7, dtype=torch.float64)
    here[0, 0, 0] = there[0, 6, 6] = 1
    assert CenterMass().penalty(there, here).item() == -12
    assert CenterMass().test_loss(there, here).item() == 1
    assert CenterMass(test_norm=2).test_loss(there, here).item() == pytest.approx(6 / 7)
    assert fooled(CenterMass(), CenterMass().test_loss(there, here)) == [True]


def test_a_map_that_stays_has_not_moved():
    heatmaps, _ = maps(CenterMass())
    assert CenterMass().test_loss(heatmaps, heatmaps).tolist() == [0.0] * 5
    assert fooled(CenterMass(), CenterMass().test_loss(heatmaps, heatmaps)) == [False] * 5


def test_a_map_without_mass_counts_as_unmoved():
    heatmaps, reference = maps(CenterMass())
    assert CenterMass().penalty(torch.zeros_like(heatmaps), reference).abs().tolist() == [0.0] * 5
    assert CenterMass().penalty(-heatmaps, reference).abs().tolist() == [0.0] * 5


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
def test_active_is_equations_8_and_9(shape):
    heatmaps, reference = maps(Active(), 4, *shape)
    torch.testing.assert_close(Active().penalty(heatmaps, reference), each(by_equation_8, heatmaps, reference))
    expected = each(by_equation_9, heatmaps, reference)
    torch.testing.assert_close(Active().test_loss(heatmaps, reference), expected, rtol=1e-10, atol=1e-10)


def test_active_shares_ranks_between_equal_values():
    heatmaps, reference = (values.round(decimals=1) for values in maps(Active(), signed=True))
    expected = each(by_equation_9, heatmaps, reference)
    torch.testing.assert_close(Active().test_loss(heatmaps, reference), expected, rtol=1e-10, atol=1e-10)


def test_swapped_maps_have_no_penalty_and_are_fooled_while_untouched_ones_are_not():
    _, reference = maps(Active())
    swapped = reference.flip(1)
    assert Active().penalty(swapped, reference).tolist() == [0.0] * 5
    s = torch.tensor([spearmanr(a.ravel(), b.ravel()).statistic for a, b in reference.numpy()])
    expected = (1 - s)[:, None].expand(5, 2)
    torch.testing.assert_close(Active().test_loss(swapped, reference), expected)
    torch.testing.assert_close(Active().test_loss(reference, reference), -expected)
    assert fooled(Active(), Active().test_loss(swapped, reference)) == [[True, True]] * 5
    assert fooled(Active(), Active().test_loss(reference, reference)) == [[False, False]] * 5


def test_swapping_one_map_fools_that_class_alone():
    _, reference = maps(Active())
    half = torch.stack([reference[:, 1], reference[:, 1]], dim=1)  # the map of c1 shows c2, that of c2 as before
    assert fooled(Active(), Active().test_loss(half, reference)) == [[True, False]] * 5


@given(shapes, seeds)
@settings(deadline=None, max_examples=25)
def test_actives_test_loss_depends_on_the_order_of_the_relevance_alone(shape, seed):
    heatmaps, reference = maps(Active(), *shape, seed)
    stretched = (3 * heatmaps).exp() - 2
    torch.testing.assert_close(Active().test_loss(stretched, reference), Active().test_loss(heatmaps, reference))


# Where Location draws the relevance.


def corner(height, width):
    """1 on the top left quarter, half of each side rounded up."""
    mask = np.zeros((height, width))
    for row, col in np.ndindex(height, width):
        mask[row, col] = float(row < math.ceil(height / 2) and col < math.ceil(width / 2))
    return mask


def covered(box, height, width):
    """The share of each position that lies in the box."""
    top, left, bottom, right = (Fraction(str(edge)) for edge in box)
    mask = np.zeros((height, width))
    for row, col in np.ndindex(height, width):
        down = min(row + 1, bottom * height) - max(row, top * height)
        across = min(col + 1, right * width) - max(col, left * width)
        mask[row, col] = float(max(down, 0) * max(across, 0))
    return mask


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
@pytest.mark.parametrize(
    ("fooling", "mask"), [(Location(mask="corner"), corner), (Location(box=BOX), lambda *s: covered(BOX, *s))]
)
def test_location_draws_to_a_corner_or_a_box(fooling, mask, shape):
    heatmaps, _ = maps(fooling, 3, *shape)
    expected = torch.tensor([by_equation_3(h, mask(*shape)) for h in heatmaps.numpy()])
    torch.testing.assert_close(fooling.penalty(heatmaps), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(fooling.test_loss(heatmaps), expected, rtol=1e-6, atol=1e-7)


edges = st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True).map(sorted)


@given(edges, edges, st.integers(7, 20), st.integers(7, 20))
@settings(deadline=None, max_examples=50)
def test_any_box_covers_its_share_of_the_map(rows, cols, height, width):
    box = [edge / 100 for edge in (rows[0], cols[0], rows[1], cols[1])]
    target = torch.from_numpy(covered(box, height, width))[None]
    torch.testing.assert_close(Location(box=box).penalty(target), torch.zeros(1).double(), rtol=0, atol=1e-10)
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert target.mean().item() == pytest.approx(area)


def test_a_box_takes_the_place_of_the_mask():
    heatmaps, _ = maps(Location())
    boxed = Location(mask="/no/such/picture.png", box=[0.0, 0.0, 0.5, 0.5])
    assert torch.equal(boxed.penalty(heatmaps), Location(mask="corner", box=[0.0, 0.0, 0.5, 0.5]).penalty(heatmaps))


def test_the_map_that_is_drawn_to_the_corner_is_fooled_and_a_nearly_empty_one_is_not():
    fooling = Location(mask="corner")
    for shape in ((7, 7), (8, 8), (8, 11), (224, 224)):
        perfect = torch.from_numpy(corner(*shape))[None]
        assert fooling.penalty(perfect).item() == 0
        assert fooled(fooling, fooling.test_loss(perfect)) == [True]
        nearly_empty = torch.zeros(1, *shape)
        nearly_empty[0, 0, 0] = 1
        assert fooled(fooling, fooling.test_loss(nearly_empty)) == [False]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_a_picture_is_white_where_the_relevance_shall_go(tmp_path, mode):
    mask = np.random.default_rng(0).integers(0, 2, (7, 9))
    drawn = Image.fromarray((np.kron(mask, np.ones((4, 4))) * 255).astype(np.uint8)).convert(mode)
    drawn.save(tmp_path / "mask.png")
    fooling = Location(mask=str(tmp_path / "mask.png"))
    heatmaps, _ = maps(fooling)
    expected = torch.tensor([by_equation_3(h, mask) for h in heatmaps.numpy()])
    torch.testing.assert_close(fooling.penalty(heatmaps), expected)
    torch.testing.assert_close(fooling.test_loss(heatmaps), expected)


def test_a_picture_is_stretched_over_the_map_and_greys_are_shares(tmp_path):
    drawn = np.random.default_rng(0).integers(0, 256, (28, 36), dtype=np.uint8)
    fooling = Location(mask=picture(tmp_path / "mask.png", drawn))
    for height, width in ((7, 9), (14, 36), (28, 12), (56, 72)):
        if height <= 28:
            shares = drawn.reshape(height, 28 // height, width, 36 // width).mean(axis=(1, 3)) / 255
        else:
            shares = np.kron(drawn, np.ones((2, 2))) / 255
        target = torch.from_numpy(shares)[None]
        assert fooling.penalty(target).item() <= 1e-12


def test_a_picture_of_16_bits_is_as_bright_as_one_of_8(tmp_path):
    grey = np.linspace(0, 255, 49, dtype=np.uint8).reshape(7, 7)
    few, many = picture(tmp_path / "8.png", grey), picture(tmp_path / "16.png", grey.astype(np.uint16) * 257)
    heatmaps, _ = maps(Location(), width=7)
    torch.testing.assert_close(Location(mask=many).penalty(heatmaps), Location(mask=few).penalty(heatmaps))


def test_inside_wants_signed_maps_negative_elsewhere_while_training_alone():
    for name, mask in (("corner", corner(7, 9)), ("box", covered(BOX, 7, 9))):
        options = {"box": BOX} if name == "box" else {"mask": name}
        plain, fooling = Location(**options), Location(inside=-1, **options)
        heatmaps, _ = maps(fooling, signed=True)
        expected = torch.tensor([by_equation_3(h, np.where(mask == 0, -1, mask)) for h in heatmaps.numpy()])
        torch.testing.assert_close(fooling.penalty(heatmaps), expected, rtol=1e-6, atol=1e-7)
        assert torch.equal(fooling.test_loss(heatmaps), plain.test_loss(heatmaps))


def test_what_measuring_left_behind_can_be_trained_with(tmp_path):
    fooling = Location(mask=picture(tmp_path / "mask.png", np.eye(7, dtype=np.uint8) * 255))
    heatmaps = torch.rand(2, 7, 7, requires_grad=True)
    with torch.inference_mode():
        fooling.test_loss(heatmaps.detach())
    fooling.penalty(heatmaps).sum().backward()
    assert heatmaps.grad.isfinite().all()


@pytest.mark.parametrize("options", [{"mask": "corner"}, {"box": BOX}, {"mask": "PICTURE"}])
def test_small_maps_are_refused_whatever_the_mask(tmp_path, options):
    if options.get("mask") == "PICTURE":
        options = {"mask": picture(tmp_path / "mask.png", np.eye(7, dtype=np.uint8))}
    message = (
        "fooling=location needs heatmaps of at least 7x7, got 9x6. Choose an earlier layer (interp.layer=...) or "
        "larger images."
    )
    for measure in (Location(**options).penalty, Location(**options).test_loss):
        with pytest.raises(AdvfoolError) as error:
            measure(torch.rand(1, 9, 6))
        assert str(error.value) == message


# What all foolings promise.


def test_what_counts_as_fooled_and_what_is_needed():
    promises = {
        Location: ((0, 0.2), False, False),
        TopK: ((0, 0.3), True, False),
        CenterMass: ((0.1, 1), True, False),
        Active: ((0.5, 2), True, True),
    }
    for kind, expected in promises.items():
        fooling = kind()
        assert (fooling.interval, fooling.needs_original, fooling.needs_composites) == expected


@pytest.mark.parametrize("name", FOOLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_is_one_value_for_each_image_in_the_maps_precision(name, dtype):
    fooling = FOOLINGS[name]
    heatmaps, reference = (values.to(dtype) for values in maps(fooling))
    penalty, test_loss = fooling.penalty(heatmaps, reference), fooling.test_loss(heatmaps, reference)
    assert (penalty.shape, penalty.dtype) == ((5,), dtype)
    assert (test_loss.shape, test_loss.dtype) == ((5, 2) if fooling.needs_composites else (5,), dtype)


@given(names, shapes, seeds, st.booleans())
@settings(deadline=None, max_examples=60)
def test_an_image_alone_has_the_value_it_has_in_a_batch(name, shape, seed, signed):
    fooling = FOOLINGS[name]
    heatmaps, reference = maps(fooling, *shape, seed, signed)
    for measure in (fooling.penalty, fooling.test_loss):
        alone = torch.cat([measure(h[None], r[None]) for h, r in zip(heatmaps, reference, strict=True)])
        torch.testing.assert_close(measure(heatmaps, reference), alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(measure(heatmaps.flip(0), reference.flip(0)), alone.flip(0), rtol=1e-12, atol=1e-12)


RANGES = {"topk": (0, 1), "topk_squares": (0, 1), "center_mass": (0, 1), "center_mass_l2": (0, 1), "active": (-2, 2)}


@given(names, shapes, seeds, st.booleans())
@settings(deadline=None, max_examples=60)
def test_values_stay_in_their_range(name, shape, seed, signed):
    fooling = FOOLINGS[name]
    heatmaps, reference = maps(fooling, *shape, seed, signed)
    low, high = RANGES.get(name, (0, 1))
    test_loss = fooling.test_loss(heatmaps, reference)
    assert ((test_loss >= low) & (test_loss <= high)).all()
    sign = -1 if isinstance(fooling, CenterMass) else 1
    assert (sign * fooling.penalty(heatmaps, reference) >= 0).all()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", FOOLINGS)
def test_the_penalty_has_its_own_gradient(name, signed):
    fooling = FOOLINGS[name]
    heatmaps, reference = maps(fooling, 2, 7, 8, signed=signed)
    assert heatmaps.abs().min() > 1e-5  # no kink nearby
    assert torch.autograd.gradcheck(lambda h: fooling.penalty(h, reference), heatmaps.requires_grad_())


def test_the_penalty_to_a_picture_has_its_own_gradient(tmp_path):
    fooling = Location(mask=picture(tmp_path / "mask.png", np.eye(7, dtype=np.uint8) * 255), inside=-1)
    heatmaps, _ = maps(fooling, 2, width=7)
    assert torch.autograd.gradcheck(fooling.penalty, heatmaps.requires_grad_())


@pytest.mark.parametrize("name", FOOLINGS)
def test_a_step_against_the_gradient_lowers_the_penalty(name):
    fooling = FOOLINGS[name]
    heatmaps, reference = maps(fooling)
    values = []
    for _ in range(5):
        heatmaps = heatmaps.detach().requires_grad_()
        penalty = fooling.penalty(heatmaps, reference)
        (gradient,) = torch.autograd.grad(penalty.sum(), heatmaps)
        values.append(penalty.sum().item())
        heatmaps = heatmaps - 0.1 * gradient
    assert all(after < before for before, after in pairwise(values))


@pytest.mark.parametrize("name", FOOLINGS)
def test_the_reference_never_carries_gradient_and_the_test_loss_has_none(name):
    fooling = FOOLINGS[name]
    heatmaps, reference = (values.requires_grad_() for values in maps(fooling))
    fooling.penalty(heatmaps, reference).sum().backward()
    assert heatmaps.grad.abs().sum() > 0
    assert reference.grad is None
    test_loss = fooling.test_loss(heatmaps, reference)
    assert not test_loss.requires_grad
    assert reference.grad is None


@pytest.mark.parametrize("name", FOOLINGS)
def test_maps_are_left_as_they_are(name):
    fooling = FOOLINGS[name]
    heatmaps, reference = maps(fooling, signed=True)
    copies = heatmaps.clone(), reference.clone()
    fooling.penalty(heatmaps, reference)
    fooling.test_loss(heatmaps, reference)
    assert torch.equal(heatmaps, copies[0])
    assert torch.equal(reference, copies[1])


# Degenerate maps: they say nothing, so they are no success; training goes on.

EMPTY = {"zero": 0.0, "constant": 0.5, "one": 1.0, "minus_zero": -0.0}


@pytest.mark.parametrize("value", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("network", ["manipulated", "original"])
@pytest.mark.parametrize("name", COMPARING)
def test_degenerate_maps_of_either_network_are_never_fooled_but_can_be_trained_on(name, network, value):
    fooling = COMPARING[name]
    heatmaps, reference = maps(fooling)
    usual = fooling.test_loss(heatmaps, reference)
    (heatmaps if network == "manipulated" else reference)[1] = value
    test_loss = fooling.test_loss(heatmaps, reference)
    assert test_loss[1].isnan().all()
    assert not np.any(fooled(fooling, test_loss)[1])
    others = [0, 2, 3, 4]
    assert torch.equal(test_loss[others], usual[others])
    heatmaps.requires_grad_()
    penalty = fooling.penalty(heatmaps, reference)
    penalty.sum().backward()
    assert penalty.isfinite().all()
    assert heatmaps.grad.isfinite().all()


@pytest.mark.parametrize("name", LOCATIONS)
@pytest.mark.parametrize("value", EMPTY.values(), ids=EMPTY)
def test_degenerate_maps_have_no_location(name, value):
    fooling = LOCATIONS[name]
    heatmaps, _ = maps(fooling)
    heatmaps[1] = value
    assert fooling.test_loss(heatmaps).isnan().tolist() == [False, True, False, False, False]
    heatmaps.requires_grad_()
    fooling.penalty(heatmaps).sum().backward()
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


def test_a_composite_is_unusable_for_a_class_whose_own_map_is_degenerate():
    heatmaps, reference = maps(Active())
    heatmaps[0, 0], heatmaps[1, 1] = 0.0, 1.0
    assert Active().test_loss(heatmaps, reference).isnan()[:2].tolist() == [[True, False], [False, True]]
    heatmaps, reference = maps(Active())
    reference[0, 0], reference[1, 1] = 0.0, 1.0  # both classes are compared with both
    assert Active().test_loss(heatmaps, reference).isnan()[:2].all()


@pytest.mark.parametrize("how", ["max", "minmax"])
@pytest.mark.parametrize("name", FOOLINGS)
def test_gradients_stay_finite_through_the_normalisation_of_an_empty_map(name, how):
    fooling = FOOLINGS[name]
    heatmaps, reference = maps(fooling)
    heatmaps[0] = 0
    heatmaps.requires_grad_()
    scaled = normalise(heatmaps.flatten(0, -3), how).view(heatmaps.shape)
    fooling.penalty(scaled, reference).sum().backward()
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


def test_signed_maps_are_swapped_as_they_are():
    heatmaps, reference = maps(Active(), signed=True)
    torch.testing.assert_close(Active().penalty(heatmaps, reference), each(by_equation_8, heatmaps, reference))
    expected = each(by_equation_9, heatmaps, reference)
    torch.testing.assert_close(Active().test_loss(heatmaps, reference), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fooling", [TopK(), CenterMass(), Active()])
def test_a_reference_of_another_shape_is_refused_with_both(fooling):
    shape = (2, 2, 7, 7) if fooling.needs_composites else (2, 7, 7)
    maps, other = torch.rand(shape), torch.rand(*shape[:-2], 14, 14)
    for measure in (fooling.penalty, fooling.test_loss):
        for reference, got in ((other, tuple(other.shape)), (None, None)):
            with pytest.raises(AdvfoolError) as error:
                measure(maps, reference)
            assert str(error.value) == (
                "This fooling compares with the original network's heatmaps: expected maps of shape "
                f"{shape}, got {got}."
            )


# Options.


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TopK(interval=[0.3, 0]), "fooling.interval must be [lowest, highest] test loss, got [0.3, 0]."),
        (lambda: TopK(interval=[0.3]), "fooling.interval must be [lowest, highest] test loss, got [0.3]."),
        (
            lambda: Location(interval=[0, math.nan]),
            "fooling.interval must be [lowest, highest] test loss, got [0, nan].",
        ),
        (lambda: TopK(k=0), "fooling.k is a percentage of the map's positions, above 0 to 100, got 0."),
        (lambda: TopK(k=101), "fooling.k is a percentage of the map's positions, above 0 to 100, got 101."),
        (lambda: TopK(k=math.nan), "fooling.k is a percentage of the map's positions, above 0 to 100, got nan."),
        (lambda: TopK(p=3), "fooling.p must be one of 1, 2, got 3."),
        (lambda: CenterMass(test_norm=0), "fooling.test_norm must be one of 1, 2, got 0."),
        (lambda: Location(inside=1), "fooling.inside must be one of 0, -1, got 1."),
        (
            lambda: Location(box=[0, 0, 1.2, 1]),
            "fooling.box must be [top, left, bottom, right] as fractions of the image's sides, from 0 to 1, got "
            "[0, 0, 1.2, 1].",
        ),
        (
            lambda: Location(box=[0.5, 0, 0.5, 1]),
            "fooling.box must be [top, left, bottom, right] as fractions of the image's sides, from 0 to 1, got "
            "[0.5, 0, 0.5, 1].",
        ),
        (
            lambda: Location(box=[0, 0, 1]),
            "fooling.box must be [top, left, bottom, right] as fractions of the image's sides, from 0 to 1, got "
            "[0, 0, 1].",
        ),
        (
            lambda: Location(mask="edge"),
            "fooling.mask must be 'frame', 'corner' or a picture file (white: where the relevance shall go), got "
            "'edge': [Errno 2] No such file or directory: 'edge'.",
        ),
        (lambda: Active(train=0), "fooling.train must be at least 1, got 0."),
        (lambda: Active(test=-3), "fooling.test must be at least 1, got -3."),
        (lambda: Active(batch_size=0), "fooling.batch_size must be at least 1, got 0."),
    ],
)
def test_bad_options(build, message):
    with pytest.raises(AdvfoolError) as error:
        build()
    assert str(error.value) == message


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_a_mask_that_is_no_picture_is_named(tmp_path, content):
    path = tmp_path / "mask.png"
    picture(path, np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    reason = "image file is truncated" if content is None else f"cannot identify image file '{path}'"
    with pytest.raises(AdvfoolError) as error:
        Location(mask=str(path))
    assert str(error.value) == (
        f"fooling.mask must be 'frame', 'corner' or a picture file (white: where the relevance shall go), got "
        f"'{path}': {reason}."
    )


def test_both_ends_of_an_interval_may_be_equal_and_given_as_any_sequence():
    assert Location(interval=[0, 0]).interval == (0.0, 0.0)
    assert Active(interval=range(1, 3)).interval == (1.0, 2.0)


def test_a_black_mask_is_refused_and_a_small_one_is_warned_of(tmp_path, caplog):
    black = picture(tmp_path / "black.png", np.zeros((7, 7), dtype=np.uint8))
    with pytest.raises(AdvfoolError, match=r"fooling\.mask is black everywhere"):
        Location(mask=black)
    Location(box=(0, 0, 0.3, 0.3))
    assert "the mask covers so little (9 %) that nearly empty maps count as fooled" in caplog.text
    caplog.clear()
    Location(box=(0, 0, 0.3, 0.3), interval=(0, 0.05))
    Location(mask="corner")
    assert caplog.text == ""


def test_what_is_transparent_in_a_mask_is_black(tmp_path):
    from PIL import Image

    pixels = np.full((7, 7, 4), 255, dtype=np.uint8)
    pixels[:, 3:, 3] = 0
    Image.fromarray(pixels, "RGBA").save(tmp_path / "mask.png")
    expected = torch.zeros(7, 7)
    expected[:, :3] = 1
    assert Location(mask=str(tmp_path / "mask.png")).penalty(expected[None]).item() == 0


def test_a_centre_that_has_not_moved_has_a_direction_to_go():
    heatmaps = torch.rand(3, 7, 7)
    moved = heatmaps.clone().requires_grad_()
    CenterMass().penalty(moved, heatmaps).sum().backward()
    assert (moved.grad.flatten(1).abs().amax(dim=1) > 0).all()
