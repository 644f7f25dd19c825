"""Downloads that torch.hub has cached: verified before they are read, and never executed."""

import hashlib
import os

import pytest
import torch
import torchvision

from advfool.data.imagenet import wnids
from advfool.models import Torchvision, hub
from advfool.utilities.errors import AdvfoolError


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The path of a file in torch.hub's cache, named by a hash that is that of `content`."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()

    def put(content, name=None):
        plain = tmp_path / "plain.pth"
        torch.save(content, plain)
        digest = hashlib.sha256(plain.read_bytes()).hexdigest()[:8]
        path = tmp_path / "checkpoints" / (name or f"net-{digest}.pth")
        plain.replace(path)
        return path

    return put


def test_a_cached_file_of_the_right_hash_is_read(cached):
    state = {"a": torch.ones(2)}
    path = cached(state)
    found = hub.hub_weights(f"https://nowhere.invalid/models/{path.name}?x=1")
    assert torch.equal(found["a"], state["a"])


def test_a_cached_file_that_was_replaced_is_refused_by_name(cached):
    path = cached({"a": torch.ones(2)}, "net-0123abcd.pth")
    with pytest.raises(AdvfoolError, match=r"net-0123abcd\.pth' is not the file that was published"):
        hub.hub_weights(f"https://nowhere.invalid/{path.name}")
    name = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    cached(torchvision.models.resnet18().state_dict(), name)
    with pytest.raises(AdvfoolError, match=name):
        Torchvision(name="r", arch="resnet18", weights="IMAGENET1K_V1", classes="imagenet").build(wnids())


@pytest.mark.parametrize("name", [None, "net.pth"])
def test_code_in_a_cached_file_is_not_run(cached, tmp_path, name):
    """Not even in one whose name has the right hash, or none."""
    path = cached({"a": Evil(tmp_path / "executed")}, name)
    with pytest.raises(AdvfoolError, match="it holds more than tensors"):
        hub.hub_weights(f"https://nowhere.invalid/{path.name}")
    assert not (tmp_path / "executed").exists()


def test_a_cached_pipe_is_refused(cached, tmp_path):
    os.mkfifo(tmp_path / "checkpoints" / "net-0123abcd.pth")
    with pytest.raises(AdvfoolError, match="expected a file with weights"):
        hub.hub_weights("https://nowhere.invalid/net-0123abcd.pth")
