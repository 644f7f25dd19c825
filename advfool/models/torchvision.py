"""Torchvision's classifiers, unmodified, with torchvision's own pretrained weights."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from advfool.data.samples import InputFormat
from advfool.models.base import NetworkSource
from advfool.models.hub import hub_weights
from advfool.utilities.errors import AdvfoolError, nearest
from advfool.utilities.kinds import Text


@dataclass
class Torchvision(NetworkSource):
    """Build a classifier of torchvision.

    Args:
        arch: torchvision's name of the architecture, e.g. resnet50. `weights` may be the name of any of its pretrained
            weights, or `DEFAULT`.

    Raises:
        AdvfoolError: torchvision has no classifier of that name.
    """

    arch: Text = "resnet50"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = torchvision.models.list_models(module=torchvision.models)
        if self.arch not in known:
            raise AdvfoolError(
                f"model.arch={self.arch} is not a torchvision classifier. Similar names: {nearest(self.arch, known)}."
            )

    def create(self, num_classes: int) -> nn.Module:
        options: dict[str, Any] = {}
        if self.arch in ("googlenet", "inception_v3"):  # their pretrained weights expect differently normalised images
            options = {"init_weights": True, "transform_input": self.weights is not None}
        elif self.arch.startswith("vit_"):
            options = {"image_size": self.input_format().size}
        network = torchvision.models.get_model(self.arch, weights=None, num_classes=num_classes, **options)
        if hasattr(network, "aux_logits"):
            # Only training from scratch needs the auxiliary heads; torchvision removes them in the same way.
            setattr(network, "aux_logits", False)  # noqa: B010  # no module or tensor, as nn.Module's types expect
            for name, module in list(network.named_children()):
                if name in ("aux1", "aux2", "AuxLogits"):
                    setattr(network, name, None) if module is not None else None
        return network

    def _enum(self) -> Any:
        """Return torchvision's enumeration of the architecture's pretrained weights."""
        return torchvision.models.get_model_weights(self.arch)

    def has_pretrained(self) -> bool:
        return self.weights == "DEFAULT" or self.weights in self._enum().__members__

    def pretrained(self) -> dict[str, Tensor]:
        weights = self._enum()[self.weights]
        name = weights.url.rpartition("/")[2]
        try:
            state = hub_weights(weights.url)
        except (URLError, OSError, RuntimeError) as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise AdvfoolError(
                f"Could not download the weights {self.arch} {self.weights}, file {name}: {error}. Fetch {name} from "
                f"{weights.url} on another machine and put it into {folder}, or give its path: "
                f"model.weights=/path/to/{name}."
            ) from error
        return dict(state)

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = {key: value for key, value in state.items() if not key.startswith(("aux1.", "aux2.", "AuxLogits."))}
        if self.arch.startswith("densenet"):  # torchvision's files have the keys of an old version (norm.1 for norm1)
            return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", k): v for k, v in state.items()}
        return state

    def input_format(self) -> InputFormat:
        if self.input is not None:
            return self.input
        enum = self._enum()
        weights = enum[self.weights] if self.has_pretrained() else enum.DEFAULT
        preset = weights.transforms()
        return InputFormat(
            preset.crop_size[0], preset.resize_size[0], preset.mean, preset.std, preset.interpolation.value
        )
