"""Tiny networks that are built once."""

import copy

import pytest

from tests.helpers.networks import TINY
from tests.helpers.relevance import built


@pytest.fixture(params=TINY)
def tiny(request):
    network, layer = built(request.param)
    return copy.deepcopy(network), layer
