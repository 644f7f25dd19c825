"""What is known of an interpreter before any attack: whether its maps say anything and have a gradient."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from advfool.auditing.verdicts import verdict_before
from advfool.data.samples import in_batches, some_of, take
from advfool.evaluation.faithfulness import RandomOrders
from advfool.evaluation.paired import explained_classes
from advfool.evaluation.setup import Setup
from advfool.interpreters.base import Interpreter, read_maps
from advfool.interpreters.tracing.recording import record
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import is_degenerate

AT_A_TIME = 32  # images


class Honesty(NamedTuple):
    """How an interpreter's maps are on the original network, on selection images.

    Args:
        faithful: share of the images whose map is faithful.
        degenerate: share of the images whose map is constant or not finite.
        zero_gradient: share of the images whose map does not depend on the network's parameters.
        images: number of images.
    """

    faithful: float
    degenerate: float
    zero_gradient: float
    images: int

    def verdict(self) -> str | None:
        """Say what makes an attack pointless; None where nothing does."""
        return verdict_before(self.faithful, self.degenerate, self.zero_gradient)


def examine(setup: Setup, interpreter: Interpreter, images: int) -> Honesty:
    """Measure an interpreter on the original network.

    Args:
        setup: the data, the network and how faithfulness is measured.
        interpreter: what is measured.
        images: number of selection images.
    """
    data, network = setup.data.selection(), setup.original
    chosen = some_of(len(data), images, setup.settings.seed)
    faithful, degenerate = [], []
    device = next(network.parameters(), torch.zeros(0)).device
    for batch in in_batches(data, chosen, AT_A_TIME, device):
        recording = record(network, batch.image, [interpreter])
        classes = explained_classes(batch.label, setup.settings.target, recording.logits)
        maps = read_maps(interpreter, recording, classes).detach().float()
        settings, input = setup.settings.faithfulness, setup.data.input
        orders = RandomOrders(network, batch.image, batch.index, classes, settings, input)
        found = orders.judge({"": maps})[""]
        faithful.append(found.faithful)
        degenerate.append(is_degenerate(maps))
    zero = _zero_gradients(network, interpreter, setup, chosen[:AT_A_TIME])
    shares = [torch.cat(part).float().mean().item() for part in (faithful, degenerate)]
    return Honesty(shares[0], shares[1], zero, len(chosen))


def _zero_gradients(network: nn.Module, interpreter: Interpreter, setup: Setup, indices: Sequence[int]) -> float:
    """Return the share of images whose heatmap has no gradient with respect to any parameter."""
    try:
        trained = interpreter.for_training()
    except AdvfoolError:  # one of another library, which cannot be trained through
        return 1.0
    parameters = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
    before = [parameter.requires_grad for parameter in parameters]
    batch = take(setup.data.selection(), indices)
    device = next(network.parameters(), torch.zeros(0)).device
    zero = 0
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for image in range(len(indices)):
            try:
                one = slice(image, image + 1)
                recording = record(network, batch.image[one].to(device), [trained])
                label = batch.label[one].to(device)
                maps = read_maps(trained, recording, explained_classes(label, setup.settings.target, recording.logits))
                weights = torch.linspace(0, 1, maps.numel(), device=maps.device).view_as(maps)
                grads = torch.autograd.grad((maps * weights).sum(), parameters, allow_unused=True)
                moved = any(grad is not None and bool(grad.abs().max() > 0) for grad in grads)
            except (AdvfoolError, RuntimeError):
                moved = False
            zero += not moved
    finally:
        for parameter, needed in zip(parameters, before, strict=True):
            parameter.requires_grad_(needed)
    return zero / max(1, len(indices))
