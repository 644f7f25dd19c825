"""Networks: torchvision's, timm's and tiny ones, each with the facts that an interpreter needs."""

from advfool.models.base import NetworkSource
from advfool.models.target_layers import find_target_layer
from advfool.models.timm import EfficientNetLite0, Timm
from advfool.models.tiny import DenseNetTiny, ResNetTiny, Tiny, VGGTiny
from advfool.models.torchvision import Torchvision

__all__ = [
    "DenseNetTiny",
    "EfficientNetLite0",
    "NetworkSource",
    "ResNetTiny",
    "Timm",
    "Tiny",
    "Torchvision",
    "VGGTiny",
    "find_target_layer",
]
