"""Tiny networks of the paper's three families, for images of 56x56 pixels on a CPU, made of torchvision's parts."""

from dataclasses import dataclass, field
from typing import Literal

from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import make_layers

from advfool.models.base import NetworkSource


class VGGTiny(nn.Module):
    """Classify with a VGG: five 3x3 convolutions with batch norm, and two linear layers.

    For images of 56x56 pixels, the input of the last convolution is a map of 14x14.

    Args:
        num_classes: number of outputs.
        width: channels of the first convolution.
    """

    def __init__(self, num_classes: int = 10, width: int = 16) -> None:
        super().__init__()
        w = width
        self.features = make_layers([w, "M", 2 * w, 2 * w, "M", 4 * w, 4 * w, "M"], batch_norm=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(4 * w, 8 * w), nn.ReLU(inplace=True), nn.Linear(8 * w, num_classes))

    def forward(self, images):  # without types, because torch.fx calls it with proxies
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


class ResNetTiny(nn.Module):
    """Classify with a ResNet: a strided convolution and three stages of `BasicBlock`s.

    For images of 56x56 pixels, the input of the last block is a map of 7x7.

    Args:
        num_classes: number of outputs.
        width: channels of the first convolution.
    """

    def __init__(self, num_classes: int = 10, width: int = 16) -> None:
        super().__init__()
        w = width
        self.conv1 = nn.Conv2d(3, w, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(w)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(_block(w, w, 1))
        self.layer2 = nn.Sequential(_block(w, 2 * w, 2))
        self.layer3 = nn.Sequential(_block(2 * w, 4 * w, 2), _block(4 * w, 4 * w, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * w, num_classes)

    def forward(self, images):  # without types, because torch.fx calls it with proxies
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def _block(inside: int, outside: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1:
        shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
    return BasicBlock(inside, outside, stride, shortcut)


class DenseNetTiny(DenseNet):
    """Classify with torchvision's DenseNet, with two dense blocks of four layers.

    For images of 56x56 pixels, the input of the last layer is a map of 7x7.

    Args:
        num_classes: number of outputs.
        growth: channels that each layer adds.
    """

    def __init__(self, num_classes: int = 10, growth: int = 12) -> None:
        blocks = (4, 4)  # torchvision loops over the blocks, of which its own networks have four
        super().__init__(growth, blocks, 2 * growth, num_classes=num_classes)  # pyright: ignore[reportArgumentType]


FAMILIES = {"vgg": VGGTiny, "resnet": ResNetTiny, "densenet": DenseNetTiny}


@dataclass
class Tiny(NetworkSource):
    """Build a tiny network; `weights="pretrained"` are trained once by `python -m advfool.pretrain` and then cached.

    Args:
        family: `vgg`, `resnet` or `densenet`.
        pretrain: settings of that training (epochs, lr, batch_size, weight_decay, seed).

    Raises:
        AdvfoolError: there is no such family.
    """

    family: Literal["vgg", "resnet", "densenet"] = "resnet"
    pretrain: dict = field(default_factory=dict)

    def create(self, num_classes: int) -> nn.Module:
        return FAMILIES[self.family](num_classes)
