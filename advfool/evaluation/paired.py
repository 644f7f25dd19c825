"""The original and the manipulated network on the same images: the one place where their heatmaps are read together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import Recording, record

NETWORKS = ("original", "manipulated")
PAIR = ("c1", "c2")  # the two classes that active fooling swaps
Target = Literal["label", "predicted"]


def explained_classes(
    labels: Int[Tensor, "n *two"], target: str, original_logits: Float[Tensor, "n c"] | None
) -> Int[Tensor, "n *two"]:
    """Choose the class that is explained for each image.

    Args:
        labels: the label of each image, or the two classes of each composite.
        target: `label`, or `predicted` for the class that the original network predicts. Both classes of a composite
            are explained, whatever the target.
        original_logits: of the original network; None where `predicted` needs none.
    """
    if target == "label" or labels.dim() == 2 or original_logits is None:
        return labels
    return original_logits.argmax(dim=1)


@dataclass(frozen=True)
class Pair:
    """Recorded forward passes of several networks on the same images.

    Args:
        recordings: by the network's name; `original` is the one that `predicted` refers to.
        targets: the class that is explained for each image, or the two of each composite.
    """

    recordings: Mapping[str, Recording]
    targets: Int[Tensor, "n *two"]

    @property
    def logits(self) -> dict[str, Tensor]:
        """The logits by the network's name."""
        return {name: recording.logits.detach() for name, recording in self.recordings.items()}

    def maps(self, interpreter: Interpreter) -> dict[str, Tensor]:
        """Read the heatmaps of the explained classes, by the network's name."""
        return {name: read_maps(interpreter, found, self.targets) for name, found in self.recordings.items()}

    def compared(
        self, interpreter: Interpreter, fooling: Fooling, original: Float[Tensor, "n *two h w"]
    ) -> Float[Tensor, "n *_two h w"]:
        """Return the original network's heatmaps that a fooling compares with.

        Args:
            interpreter: whose heatmaps they are.
            fooling: says which classes it compares with.
            original: the original network's heatmaps of the explained classes.
        """
        if not fooling.needs_another_class:
            return original
        recording = self.recordings["original"]
        other = fooling.compared_classes(self.targets, recording.logits)[:, 1]
        return torch.stack([original, read_maps(interpreter, recording, other).detach().to(original)], dim=1)


def record_pair(
    networks: Mapping[str, nn.Module],
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, "n *two"],
    interpreters: Sequence[Interpreter],
    target: str,
) -> Pair:
    """Run each network once on the images and choose the classes that are explained.

    Args:
        networks: by name, `original` among them.
        images: as the networks take them, on their device.
        labels: the label of each image, or the two classes of each composite.
        interpreters: those whose heatmaps will be read.
        target: `label` or `predicted`, see `explained_classes`.
    """
    recordings = {name: record(network, images, interpreters) for name, network in networks.items()}
    return Pair(recordings, explained_classes(labels, target, recordings["original"].logits))
