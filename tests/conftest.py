"""Shared by all tests: checked signatures, tiny networks, images."""

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook
from PIL import Image

install_import_hook("advfool", "typechecking.check")  # before anything of advfool is imported

from advfool.models import DenseNetTiny, ResNetTiny, VGGTiny  # noqa: E402

TINY = {
    "vgg_tiny": (VGGTiny, "features.14"),
    "resnet_tiny": (ResNetTiny, "layer3.1"),
    "densenet_tiny": (DenseNetTiny, "features.denseblock2.denselayer4"),
}


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the slow tests, too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: make test-all"))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(params=TINY)
def tiny(request):
    """Each tiny network in float64 with its target layer, statistics of batch norm as after training."""
    return build_tiny(request.param)


def build_tiny(name: str, dtype=torch.float64):
    build, layer = TINY[name]
    torch.manual_seed(0)
    network = build().to(dtype)
    network.train()
    with torch.no_grad():  # running statistics of real activations, not the initial 0 and 1
        for _ in range(20):
            network(torch.randn(16, 3, 56, 56, dtype=dtype))
    return network.eval(), layer


@pytest.fixture
def photo_folder(tmp_path) -> Path:
    """train/ and val/ with two classes of generated JPEGs."""
    for split, count in (("train", 6), ("val", 3)):
        for label in ("cat", "dog"):
            make_photos(tmp_path / "photos" / split / label, count)
    return tmp_path / "photos"


def make_photos(folder: Path, count: int, size: tuple[int, int] = (80, 64)) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = (torch.rand(size[1], size[0], 3) * 255).to(torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{i}.jpg")


@pytest.fixture(scope="session")
def photos() -> Path:
    """Real photos, where the machine has them."""
    path = os.environ.get("ADVFOOL_PHOTOS")
    if not path or not Path(path).is_dir():
        pytest.skip("set ADVFOOL_PHOTOS to a folder of wnid folders with photos")
    return Path(path)
