"""Digits, composites and an original network for one step of a training."""

import copy

import pytest
import torch

from advfool.data import DigitsModule, InputFormat
from advfool.data.composites import composite_splits
from tests.helpers.networks import build_tiny

FORMAT = InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("advfool.data.digits.PLACEMENTS", {"train": 1, "selection": 1, "test": 1})
        yield DigitsModule(FORMAT, str(tmp_path_factory.mktemp("cache")), limit_train=20, limit_val=20)


@pytest.fixture(scope="module")
def composites(digits):
    everything = copy.copy(digits)
    everything.limits = dict.fromkeys(digits.limits)
    return composite_splits(everything, (3, 8), train=20, test=6).train


@pytest.fixture(scope="module")
def shared_network():
    return build_tiny("resnet_tiny", torch.float32)[0].requires_grad_(False)


@pytest.fixture
def original(shared_network):
    return copy.deepcopy(shared_network)
