import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advfool.metrics.functional.localisation import mass_inside, points_into
from advfool.utilities.heatmaps import box_mask, frame_mask, is_degenerate, normalise, resize

maps = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10_000)).map(
    lambda s: torch.randn(*s[:3], generator=torch.Generator().manual_seed(s[3]), dtype=torch.float64)
)


@given(maps)
@settings(deadline=None)
def test_max_normalisation_keeps_signs_and_reaches_one(heatmap):
    result = normalise(heatmap)
    torch.testing.assert_close(result.abs().amax(dim=(1, 2)), torch.ones(len(heatmap), dtype=torch.float64))
    assert torch.equal(result.sign(), heatmap.sign())


@given(maps)
@settings(deadline=None)
def test_minmax_spans_zero_to_one(heatmap):
    result = normalise(heatmap, "minmax")
    constant = is_degenerate(heatmap)
    assert (result.amin(dim=(1, 2)) == 0).all()
    torch.testing.assert_close(result.amax(dim=(1, 2)), (~constant).double())


@pytest.mark.parametrize("how", ["max", "minmax"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_maps_have_no_nan_and_no_gradient_explosion(how, value):
    heatmap = torch.full((2, 3, 3), value, requires_grad=True)
    normalise(heatmap, how).sum().backward()
    assert heatmap.grad.isfinite().all()


def test_unknown_normalisation():
    with pytest.raises(ValueError, match="normalise must be 'max', 'minmax' or 'none', got 'sum'"):
        normalise(torch.rand(1, 2, 2), "sum")


def test_degenerate_maps():
    heatmaps = torch.stack([torch.zeros(3, 3), torch.ones(3, 3), torch.eye(3), torch.full((3, 3), torch.nan)])
    assert is_degenerate(heatmaps).tolist() == [True, True, False, True]


@pytest.mark.parametrize(("side", "edge"), [(7, 1), (14, 2), (56, 8), (224, 32)])
def test_frame_is_a_seventh_wide(side, edge):
    mask = frame_mask(side, side)
    expected = [
        [1.0 if min(r, c, side - 1 - r, side - 1 - c) < edge else 0.0 for c in range(side)] for r in range(side)
    ]
    assert mask.tolist() == expected


def test_box_mask_and_what_maps_say_about_it():
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 4.0, 8.0, 8.0]])
    mask = box_mask(box, 8, 8)
    assert mask.sum(dim=(1, 2)).tolist() == [16, 16]
    assert mask[0, :4, :4].all()
    assert mask[1, 4:, 4:].all()
    heatmap = torch.zeros(2, 2, 2)
    heatmap[:, 0, 0] = 1
    assert points_into(heatmap, box, (8, 8)).tolist() == [1, 0]
    inside = mass_inside(heatmap, box, (8, 8))
    assert inside[0] > 0.6
    assert inside[1] < 0.1
    torch.testing.assert_close(
        inside[0], (resize(heatmap, (8, 8))[0] * mask[0]).sum() / resize(heatmap, (8, 8))[0].sum()
    )


def test_a_map_without_relevance_points_nowhere():
    box = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    assert points_into(torch.zeros(1, 2, 2), box, (8, 8)).tolist() == [0]
    assert mass_inside(-torch.rand(1, 2, 2), box, (8, 8)).isnan().all()


def test_unknown_boxes_are_no_misses():
    from advfool.metrics.functional.localisation import mass_inside, points_into

    maps = torch.rand(2, 7, 7)
    boxes = torch.tensor([[0.0, 0, 14, 14], [-1, -1, -1, -1]])
    for measure in (points_into, mass_inside):
        values = measure(maps, boxes, (14, 14))
        assert values[0] == 1
        assert values[1].isnan()


def test_the_centre_of_a_large_map_in_half_precision():
    from advfool.utilities.heatmaps import centroid

    maps = torch.rand(2, 224, 224)
    torch.testing.assert_close(centroid(maps.half()), centroid(maps.half().float()))
