"""The direction in which a classifier's last layer can move without changing any prediction.

The softmax does not see what is added to all logits of an image alike. So the rows of the last layer's weight can all
move by the same vector: every probability stays as it is, while the heatmap of every class changes.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import copied, in_eval_mode, module_at

FASTER = 40.0  # times the rate of the other parameters: nothing is lost by it
SIZES = (1.0, 30.0, 1000.0)  # of the vectors that are added to find the layer, in root mean squares of its weight
UNSEEN = 1e-3  # by which log-probabilities may differ, relative to the largest logit: rounding


def find_free_layer(network: nn.Module, images: Float[Tensor, "n channels h w"]) -> str | None:
    """Find the layer to all of whose rows any vector can be added without changing a probability.

    Args:
        network: it is left as it is.
        images: that this is tried on.

    Returns:
        the dotted name of the linear layer or convolution; None where there is none, as for a network that normalises
        its rows or clips its logits.
    """
    network = copied(network)
    images = images.to(next(network.parameters()).device)
    with in_eval_mode(network), torch.no_grad():
        name = _last_called(network, images)
        return name if name is not None and _is_free(network, module_at(network, name), images) else None


def _last_called(network: nn.Module, images: Tensor) -> str | None:
    """Name the linear layer or convolution that a network calls last; None where there is none."""
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: order.append(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return order[-1] if order else None


def rows_of(layer: nn.Module) -> nn.Parameter | None:
    """Return the weight of a layer; None where it is computed from other parameters.

    Args:
        layer: linear, or a convolution.
    """
    return layer._parameters.get("weight")


def _is_free(network: nn.Module, layer: nn.Module, images: Tensor) -> bool:
    """Tell whether vectors added to all rows of a layer change the logits, but no probability."""
    weight = rows_of(layer)
    if weight is None or not weight.is_floating_point():
        return False
    before, kept, moved = network(images).double(), weight.detach().clone(), False
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        for sign in (1, -1):
            vector = torch.randn(weight[:1].shape, generator=generator).abs() * kept.square().mean().sqrt().item()
            weight.copy_(kept + sign * size * vector.to(weight))
            after = network(images).double()
            largest = after.abs().max().item()
            seen = (after.log_softmax(dim=1) - before.log_softmax(dim=1)).abs().max().item()
            if not seen <= UNSEEN * max(1.0, largest):
                return False
            moved = moved or (after - before).abs().max().item() > UNSEEN * largest
    return moved


@torch.no_grad()
def centred(network: nn.Module, images: Float[Tensor, "n channels h w"]) -> nn.Module | None:
    """Copy a network and take away what all rows of its last layer have in common; no probability changes by it.

    Args:
        network: it is left as it is.
        images: on which the layer is found.

    Returns:
        the copy; None for networks without such a layer.
    """
    layer = find_free_layer(network, images)
    if layer is None:
        return None
    other = copied(network)
    weight = rows_of(module_at(other, layer))
    assert weight is not None
    weight.sub_(weight.mean(dim=0, keepdim=True))
    return other


class FreeDirection:
    """Keep a layer to the free direction: while it is trained, all rows of its weight move alike, and its bias not.

    Args:
        network: that is trained.
        layer: see `find_free_layer`.

    Raises:
        AdvfoolError: there is no such layer, or its weight is no parameter.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        self.weight = _weight_of(network, layer, "free_layer").requires_grad_(True)
        self.weight.register_hook(_alike)
        bias = module_at(network, layer).bias
        if isinstance(bias, nn.Parameter):
            bias.requires_grad_(False)

    def hasten(self, optimizer: Optimizer) -> None:
        """Let the layer move faster than the others, where every parameter has a learning rate of its own.

        Args:
            optimizer: of the network's parameters.
        """
        groups = optimizer.param_groups
        for group in groups:
            if len(groups) > 1 and len(group["params"]) == 1 and group["params"][0] is self.weight:
                group["lr"] *= FASTER


class HeldMean:
    """Hold the mean of a layer's rows as it is while the layer is trained: centring it then takes nothing away.

    Args:
        network: that is trained.
        layer: see `find_free_layer`.

    Raises:
        AdvfoolError: the weight of the layer is no parameter.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        self.weight = _weight_of(network, layer, "held_layer")
        self.mean = self.weight.detach().mean(dim=0, keepdim=True).clone()

    def follow(self, optimizer: Optimizer) -> None:
        """Bring the mean back after every step of an optimizer."""
        optimizer.register_step_post_hook(lambda *_: self._restore())

    @torch.no_grad()
    def _restore(self) -> None:
        self.weight.sub_(self.weight.mean(dim=0, keepdim=True) - self.mean.to(self.weight.device))


def _weight_of(network: nn.Module, layer: str, setting: str) -> nn.Parameter:
    weight = rows_of(module_at(network, layer))
    if weight is None:
        raise AdvfoolError(f"{setting}={layer} has no weight that is a parameter of its own.")
    return weight


def _alike(gradient: Tensor) -> Tensor:
    """Return for every row the gradient of a vector that is added to all of them."""
    return gradient.sum(dim=0, keepdim=True).expand_as(gradient).contiguous()
