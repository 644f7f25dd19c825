"""`python -m advfool.gallery`: any picture on any networks."""

import subprocess
import sys

import pytest
from PIL import Image


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "advfool.gallery", *arguments], cwd=cwd, capture_output=True, text=True
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
        (["models=[]"], "models must be a list that is not empty of different names, got []"),
    ],
)
def test_mistakes_are_told(arguments, message, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
