"""Pictures of heatmaps."""

import torch
from PIL import Image

from advfool.data import InputFormat
from advfool.data.samples import Sample
from advfool.evaluation.pictures import GalleryRow, gallery_picture, heatmaps_picture
from advfool.interpreters import SimpleGrad
from tests.helpers.networks import build_tiny


def test_signed_maps_and_missing_ones_are_drawn(tmp_path):
    rows = [
        GalleryRow(
            "net", torch.rand(3, 20, 20), "cat", "cat 90%", {"lrp": torch.randn(20, 20), "cam": torch.rand(7, 7)}
        ),
        GalleryRow("vit", torch.rand(3, 30, 30), "cat", "dog 50%", {"lrp": None, "cam": torch.zeros(7, 7)}),
    ]
    gallery_picture(tmp_path / "gallery.png", rows)
    assert coloured(tmp_path / "gallery.png")


def coloured(path):
    """Whether a picture has red and blue places, as heatmaps of both signs do."""
    with Image.open(path) as picture:
        found = {pixel for _, pixel in picture.convert("RGB").getcolors(1 << 24)}
    return any(red > blue + 60 for red, _, blue in found) and any(blue > red + 60 for red, _, blue in found)


def test_negative_relevance_is_shown_below_the_images(tmp_path):
    network, _ = build_tiny("resnet_tiny", torch.float32)
    networks = {"original": network, "manipulated": network}
    input, labels = InputFormat(56, 56, (0.5,) * 3, (0.5,) * 3), [str(digit) for digit in range(10)]
    samples = [Sample(torch.full((3, 56, 56), number / 9), number, number, torch.zeros(4)) for number in range(3)]
    interpreter = SimpleGrad(times_input=True, name="simplegrad")
    heatmaps_picture(tmp_path / "heatmaps.png", samples, networks, interpreter, input, labels, "label")
    assert coloured(tmp_path / "heatmaps.png")
    pairs = [Sample(torch.rand(3, 56, 56), torch.tensor([0, 1]), number, torch.zeros(4)) for number in range(2)]
    heatmaps_picture(tmp_path / "pairs.png", pairs, networks, interpreter, input, labels, "label")
    assert coloured(tmp_path / "pairs.png")
