"""Files of weights: written, read, refused."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from advfool.models import Tiny, Torchvision
from advfool.models.weights import read_classes, read_weights, write_weights
from advfool.utilities.errors import AdvfoolError


def test_classes_are_checked_before_weights_are_loaded():
    source = Torchvision(name="vgg19", arch="vgg19", weights="IMAGENET1K_V1", classes="imagenet")
    with pytest.raises(AdvfoolError) as error:
        source.build(("cat", "dog"))
    assert str(error.value).startswith(
        "The network's classes are not the data's: model=vgg19 with weights IMAGENET1K_V1 has 1000 classes "
        "(n01440764, n01443537, n01484850, ..., n15075141), the data have 2 (cat, dog). Name the class folders by wnid"
    )


def test_weights_round_trip_and_their_classes(tmp_path):
    source = Tiny(name="resnet_tiny", family="resnet")
    network = source.build(("a", "b"))
    path = tmp_path / "x.safetensors"
    write_weights(network, path, ("a", "b"))
    assert read_classes(path) == ("a", "b")
    again = Tiny(name="resnet_tiny", family="resnet", weights=str(path)).build(("a", "b"))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())
    with pytest.raises(AdvfoolError, match=r"has 2 classes \(a, b\), the data have 2 \(b, c\)"):
        Tiny(name="resnet_tiny", family="resnet", weights=str(path)).build(("b", "c"))


def test_weights_that_do_not_fit_list_their_keys(tmp_path):
    state = torchvision.models.resnet18(num_classes=7).state_dict()
    state["extra.weight"] = state.pop("bn1.weight")
    torch.save(state, tmp_path / "w.pt")
    source = Torchvision(name="resnet18", arch="resnet18", weights=str(tmp_path / "w.pt"))
    with pytest.raises(AdvfoolError) as error:
        source.build(("a", "b"))
    assert str(error.value) == (
        f"The weights in {tmp_path}/w.pt do not fit ResNet: 1 missing (bn1.weight); 1 unexpected (extra.weight); "
        "2 of another shape (fc.weight: network (2, 512), file (7, 512), fc.bias: network (2,), file (7,)). "
        "Give weights of the same architecture with as many classes as the data."
    )


class Evil:
    def __reduce__(self):
        return exec, ("raise AssertionError('code in the file was run')",)


@pytest.mark.parametrize(
    "kind", ["missing", "missing safetensors", "pickle", "text", "empty", "no dict", "bad safetensors"]
)
def test_unsafe_or_broken_weights_are_refused(tmp_path, kind):
    path = tmp_path / ("w.safetensors" if "safetensors" in kind else "w.pt")
    if kind == "pickle":
        torch.save({"a": Evil()}, path)
    elif kind == "no dict":
        torch.save([torch.zeros(2)], path)
    elif "missing" not in kind:
        path.write_text("" if kind == "empty" else "not weights at all")
    source = Torchvision(name="resnet18", arch="resnet18", weights=str(path))
    with pytest.raises(AdvfoolError):
        source.build(("a", "b"))
    messages = {"missing": "no file", "missing safetensors": "no file", "no dict": "holds list, not a state dict"}
    with pytest.raises(AdvfoolError, match=messages.get(kind, "is not a safe weights file")):
        read_weights(path)


def test_a_lightning_checkpoint_gives_its_network(tmp_path):
    network = Tiny(name="x", family="vgg").create(10)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state | {"val_top1.x": torch.zeros(1)}}, tmp_path / "last.ckpt")
    assert list(read_weights(tmp_path / "last.ckpt")) == list(network.state_dict())


def test_safetensors_written_by_others_have_no_classes(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert read_classes(tmp_path / "a.safetensors") is None
