"""Where a network comes from: its architecture, its weights, and the facts that its YAML states."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advfool.data.imagenet import wnids
from advfool.data.samples import InputFormat
from advfool.interpreters.tracing.sites import Layout
from advfool.models.weights import fit_weights, read_classes, read_weights
from advfool.utilities.errors import AdvfoolError


@dataclass
class NetworkSource(ABC):
    """Abstract: builds one network.

    weights: name of published weights, path of a state dict, or None for an untrained network.
    classes: names of the outputs of a network with weights, "imagenet" for the 1,000 wnids, None to take the data's.
    target_layer, layout: where Grad-CAM and the layer-wise interpreters look; None to find the last convolution
    or block whose map is at least 7x7. input: None to take what the published weights ask for.
    channels_last: memory format of the weights, faster for depthwise convolutions.
    """

    name: str
    weights: str | None = None
    classes: Sequence[str] | str | None = None
    target_layer: str | None = None
    layout: Layout | None = None
    input: InputFormat | None = None
    channels_last: bool = False

    @abstractmethod
    def create(self, num_classes: int) -> nn.Module:
        """The architecture with untrained weights."""

    def has_pretrained(self) -> bool:
        """Whether `weights` names published weights (and not a file)."""
        return False

    def pretrained(self) -> dict[str, Tensor]:
        """The published weights, downloaded once."""
        raise NotImplementedError

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published or own weights with the keys that the network has today."""
        return state

    def input_format(self) -> InputFormat:
        """How the network wants its images."""
        if self.input is None:
            raise AdvfoolError(f"model={self.name} needs model.input (size, resize, mean, std, interpolation).")
        return self.input

    def build(self, data_classes: Sequence[str]) -> nn.Module:
        """The network, in eval mode, with one output for each class of the data.

        Raises:
            AdvfoolError: the network's classes are not the data's, or the weights cannot be had or do not fit.
        """
        network = self.create(len(data_classes)).eval()
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if self.weights is None:
            return network
        published = self.has_pretrained()
        state = None if published else read_weights(self.weights)
        self._check_classes(self._own_classes(published), data_classes)
        state = self.pretrained() if state is None else state
        fit_weights(network, self.adapt(state), str(self.weights))
        return network

    def _own_classes(self, published: bool) -> Sequence[str] | None:
        if not published:
            # A file states its own classes or none; what the YAML says is about the published weights.
            stated = read_classes(self.weights)
            return stated or (self.classes if not isinstance(self.classes, str) else None)
        return wnids() if self.classes == "imagenet" else self.classes

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
