"""Torchvision's networks and their published weights."""

import re

import pytest
import torch
import torchvision

from advfool.data import InputFormat
from advfool.data.imagenet import wnids
from advfool.models import Timm, Tiny, Torchvision, hub
from advfool.utilities.errors import AdvfoolError


def test_unknown_names_list_similar_ones():
    with pytest.raises(AdvfoolError, match=r"model.arch=resnet51 is not a torchvision classifier\. Similar .*resnet50"):
        Torchvision(name="x", arch="resnet51")
    with pytest.raises(AdvfoolError, match=r"model.arch=resnet51 is not one of timm's networks\. Similar .*resnet50"):
        Timm(name="x", arch="resnet51")
    with pytest.raises(AdvfoolError, match="family must be one of vgg, resnet, densenet, got 'cnn'"):
        Tiny(name="x", family="cnn")


def test_published_weights_load_from_torchvisions_hub_folder(tmp_path, monkeypatch):
    """Only the network is replaced: the file lies where a download would have put it."""
    expected = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(hub, "verify", lambda path: None)  # it is not the file that was published
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    (tmp_path / "checkpoints").mkdir()
    torch.save(expected, tmp_path / "checkpoints" / weights.url.rpartition("/")[2])
    source = Torchvision(name="resnet18", arch="resnet18", weights="IMAGENET1K_V1", classes="imagenet")
    network = source.build(wnids())
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert type(network) is torchvision.models.ResNet
    assert not network.training


@pytest.mark.parametrize("by_path", [True, False])
def test_published_densenet_files_have_old_keys(tmp_path, monkeypatch, by_path):
    """The layout of densenet121-a639ec97.pth: norm.1 and conv.2 for norm1 and conv2."""
    expected = torchvision.models.densenet121().state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): v for key, v in expected.items()}
    assert old.keys() != expected.keys()
    weights = torchvision.models.DenseNet121_Weights.IMAGENET1K_V1
    path = tmp_path / "checkpoints" / weights.url.rpartition("/")[2]
    path.parent.mkdir()
    torch.save(old, path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(hub, "verify", lambda path: None)
    source = Torchvision(
        name="d", arch="densenet121", weights=str(path) if by_path else "IMAGENET1K_V1", classes="imagenet"
    )
    network = source.build(wnids())
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_googlenet_with_weights_transforms_its_input_and_has_no_auxiliary_heads(tmp_path):
    full = torchvision.models.googlenet(num_classes=2, aux_logits=True, init_weights=False)
    torch.save(full.state_dict(), tmp_path / "g.pth")
    network = Torchvision(name="g", arch="googlenet", weights=str(tmp_path / "g.pth")).build(("a", "b"))
    reference = torchvision.models.googlenet(num_classes=2, aux_logits=True, init_weights=False, transform_input=True)
    reference.load_state_dict(full.state_dict())
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network(images), reference.eval()(images))


def test_vision_transformers_take_the_size_of_their_weights():
    with torch.device("meta"):
        network = Torchvision(name="v", arch="vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1").create(10)
    assert network.image_size == 384


def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*args, **kwargs):
        from urllib.error import URLError

        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    source = Torchvision(name="vgg19", arch="vgg19", weights="IMAGENET1K_V1", classes="imagenet")
    with pytest.raises(
        AdvfoolError, match=r"Could not download .* file vgg19-dcbb9e9d.pth: .*no route.*model\.weights="
    ):
        source.build(wnids())


def test_input_format_of_published_weights():
    assert Torchvision(name="x", arch="inception_v3", weights="DEFAULT").input_format() == InputFormat(
        299, 342, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear"
    )
    assert Timm(name="x", arch="vit_tiny_patch16_224").input_format() == InputFormat(
        224, 249, (0.5,) * 3, (0.5,) * 3, "bicubic"
    )
