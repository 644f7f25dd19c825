"""Shared by all tests: checked signatures, tiny networks, images."""

import os
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

from tests.helpers import typechecking

install_import_hook("advfool", f"{typechecking.__name__}.check")  # before anything of advfool is imported

from tests.helpers.networks import TINY, build_tiny  # noqa: E402
from tests.helpers.photos import make_photos  # noqa: E402

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


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


@pytest.fixture(autouse=True)
def _outside_a_command():
    """Leave no command behind as the running one: Hydra keeps what a test composed or set."""
    HydraConfig.instance().cfg = None
    yield
    HydraConfig.instance().cfg = None


@pytest.fixture(params=TINY)
def tiny(request):
    """Each tiny network in float64 with its target layer, statistics of batch norm as after training."""
    return build_tiny(request.param)


@pytest.fixture
def photo_folder(tmp_path) -> Path:
    """train/ and val/ with two classes of generated JPEGs."""
    for split, count in (("train", 6), ("val", 3)):
        for label in ("cat", "dog"):
            make_photos(tmp_path / "photos" / split / label, count)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def photos() -> Path:
    """Real photos, where the machine has them."""
    path = os.environ.get("ADVFOOL_PHOTOS")
    if not path or not Path(path).is_dir():
        pytest.skip("set ADVFOOL_PHOTOS to a folder of wnid folders with photos")
    return Path(path)
