"""Test images that cannot be read before the end."""

from contextlib import contextmanager

import pytest

from advfool.data.base import DataModule
from advfool.data.samples import Samples, take
from advfool.library import compare, fool
from tests.helpers.data import RandomData


class SealedSamples(Samples):
    """Samples that raise when an image is read while they are sealed."""

    def __init__(self, samples: Samples, seal: dict) -> None:
        self.samples, self.seal = samples, seal

    def __len__(self) -> int:
        return len(self.samples)

    def labels(self):
        return self.samples.labels()

    def digest(self, indices=None) -> str:
        return self.samples.digest(indices)

    def __getitem__(self, index):
        return self._opened()[index]

    def __getitems__(self, indices):
        return take(self._opened(), indices)

    def _opened(self) -> Samples:
        if self.seal["sealed"]:
            raise RuntimeError("A test image was read before the end.")
        self.seal["read"] += 1
        return self.samples


@contextmanager
def sealed_test_images(kind: type[DataModule] = RandomData):
    """Seal the test images of a kind of data module until the comparison at the end; yields what was seen."""
    seal = {"sealed": True, "read": 0, "ends": 0}
    original, compare_at_end = kind.test, compare.run_comparison

    def opened(*args, **kwargs):
        seal["sealed"], seal["ends"] = False, seal["ends"] + 1
        return compare_at_end(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "test", lambda self: SealedSamples(original(self), seal))
        patch.setattr(fool, "run_comparison", opened)
        yield seal
