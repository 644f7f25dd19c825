"""What maps say about a box."""

import torch

from advfool.metrics.functional.localisation import mass_inside, points_into
from advfool.utilities.heatmaps import box_mask, resize


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
