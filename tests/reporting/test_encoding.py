"""Images and maps as the page holds them."""

import base64

import torch

from advfool.reporting import encoding as gallery
from advfool.reporting.runs import find_runs


def test_examples_go_from_best_to_worst_and_pictures_are_kept_once(sweep):
    runs = [run for run in find_runs(sweep) if run.name in "ab"]
    collected = gallery.Gallery(runs)
    for run in runs:
        found = collected.add(run)
        assert [image["roles"] for image in found["images"]] == [("best",), ("fixed",), ("median",), ("worst",)]
        assert [interp["signed"] for interp in found["interps"]] == [False, False, True]
    assert len(collected.pictures) == 4
    worst = found["images"][-1]["maps"]["gradcam"][0]
    assert worst["loss"] == [None, None]
    assert worst["fooled"] is False


def test_maps_are_bytes_with_zero_in_the_middle_of_signed_ones():
    heatmap = torch.tensor([[0.0, 0.5], [1.0, -1.0]])
    assert list(base64.b64decode(gallery.encoded_map(heatmap.relu(), 7, False))) == [0, 128, 255, 0]
    assert list(base64.b64decode(gallery.encoded_map(heatmap, 7, True))) == [128, 192, 255, 1]
    assert gallery.shrunk(torch.rand(56, 50), 28).shape == (28, 28)
