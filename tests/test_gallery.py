import subprocess
import sys

import pytest
import torch
from PIL import Image

from advfool.evaluation.pictures import GalleryRow, gallery_picture


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "advfool.gallery", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def test_any_picture_on_any_networks(tmp_path):
    Image.new("RGB", (90, 120), (200, 80, 40)).save(tmp_path / "photo.jpg")
    done = run(
        "image=photo.jpg",
        "models=['torchvision model.arch=resnet18 model.weights=null','torchvision model.arch=vit_b_32 model.weights=null']",
        "interps=[gradcam,lrp]",
        "output=out/maps.png",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "The picture: out/maps.png" in done.stdout
    assert "lrp on VisionTransformer: LRP has no rule for MultiheadAttention" in done.stdout
    with Image.open(tmp_path / "out" / "maps.png") as picture:
        assert picture.width > picture.height > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models=[nope]"], "gallery: cannot compose model 'nope'"),
        (["image=no.jpg", "models=['torchvision model.weights=null']"], "Cannot read the image 'no.jpg'"),
        (["models=['torchvision model.weights=null']"], "give a picture for networks that are not for the digits"),
        (["models=[]"], "give at least one of models"),
    ],
)
def test_mistakes_are_told(arguments, message, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_signed_maps_and_missing_ones_are_drawn(tmp_path):
    rows = [
        GalleryRow(
            "net", torch.rand(3, 20, 20), "cat", "cat 90%", {"lrp": torch.randn(20, 20), "cam": torch.rand(7, 7)}
        ),
        GalleryRow("vit", torch.rand(3, 30, 30), "cat", "dog 50%", {"lrp": None, "cam": torch.zeros(7, 7)}),
    ]
    gallery_picture(tmp_path / "gallery.png", rows)
    with Image.open(tmp_path / "gallery.png") as picture:
        colours = {pixel for _, pixel in picture.convert("RGB").getcolors(1 << 24)}
    assert any(red > blue + 60 for red, _, blue in colours)
    assert any(blue > red + 60 for red, _, blue in colours)
