"""The abstract source of a network: its architecture, its weights and the facts that its YAML file states."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from advfool.data.imagenet import wnids
from advfool.data.samples import InputFormat
from advfool.interpreters.tracing.sites import Layout
from advfool.models.weights import fit_weights, read_classes, read_weights
from advfool.utilities.checking import check_fields
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Names, Text


@dataclass
class NetworkSource(ABC):
    """Define how one network is built (abstract).

    Args:
        name: what tables call the network.
        weights: name of pretrained weights, path of a state dict, or None for an untrained network.
        classes: names of the outputs of a network with pretrained weights, "imagenet" for ImageNet's 1,000 wnids, or
            None for the classes of the data.
        target_layer: name of the layer that Grad-CAM and similar interpreters explain; None to find the last
            convolution or block whose map is at least 7x7.
        layout: how the activation of the target layer is laid out; None to find it.
        input: the format of the images; None for that of the pretrained weights.
        channels_last: whether the weights have the memory format channels_last, which is faster for depthwise
            convolutions.
    """

    name: Text
    weights: Text | None = None
    classes: Names | Literal["imagenet"] | None = None
    target_layer: Text | None = None
    layout: Layout | None = None
    input: InputFormat | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def create(self, num_classes: int) -> nn.Module:
        """Create the network with untrained weights.

        Args:
            num_classes: number of outputs.
        """

    def has_pretrained(self) -> bool:
        """Test whether `weights` is the name of pretrained weights (and not a file)."""
        return False

    def pretrained(self) -> dict[str, Tensor]:
        """Return the pretrained weights, which are downloaded once."""
        raise NotImplementedError

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of weights that were saved by an older version of the architecture."""
        return state

    def input_format(self) -> InputFormat:
        """Return the format of the network's images.

        Raises:
            AdvfoolError: neither the YAML file nor the pretrained weights state it.
        """
        if self.input is None:
            raise AdvfoolError(f"model={self.name} needs model.input (size, resize, mean, std, interpolation).")
        return self.input

    def build(self, data_classes: Sequence[str]) -> nn.Module:
        """Build the network with its weights, in eval mode.

        Args:
            data_classes: names of the data's classes, one for each output.

        Raises:
            AdvfoolError: the network's classes are not those of the data, or the weights cannot be read or do not fit.
        """
        network = self.create(len(data_classes)).eval()
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if self.weights is None:
            return network
        if self.has_pretrained():
            self._check_classes(wnids() if self.classes == "imagenet" else self.classes, data_classes)
            state = self.pretrained()
        else:
            state = read_weights(self.weights)
            # A file states its own classes or none; an "imagenet" in the YAML file is about the pretrained weights.
            otherwise = None if isinstance(self.classes, str) else self.classes
            self._check_classes(read_classes(self.weights) or otherwise, data_classes)
        fit_weights(network, state, str(self.weights), self.adapt)
        return network

    def _check_classes(self, own: Sequence[str] | None, data: Sequence[str]) -> None:
        if own is None or list(own) == list(data):
            return
        raise AdvfoolError(
            f"The network's classes are not the data's: model={self.name} with weights {self.weights} has "
            f"{len(own)} classes ({_sketch(own)}), the data have {len(data)} ({_sketch(data)}). Name the class "
            "folders by wnid, map them with data.class_map={folder: class}, or give weights trained on these "
            "classes (model.weights=PATH; model.weights=null for an untrained network)."
        )


def _sketch(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", ..., {names[-1]}" if len(names) > 3 else "")
