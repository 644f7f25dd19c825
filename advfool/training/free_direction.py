"""The direction in which a classifier's last layer can move without changing any prediction.

The softmax does not see what is added to all logits of an image alike. So the rows of the last layer's weight can all
move by the same vector: every probability stays exactly as it is, while the heatmap of every class changes.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from advfool.utilities.modules import module_at

FASTER = 40.0  # times the rate of the other parameters: nothing is lost by it


def last_layer(network: nn.Module, images: Float[Tensor, "n channels h w"]) -> str | None:
    """Find the linear layer, or convolution, whose outputs are the logits.

    Args:
        network: in eval mode.
        images: some images.

    Returns:
        the layer's dotted name; None where what comes last is something else, which may see what is added.
    """
    outputs: dict[str, Tensor] = {}

    def keeping(name: str):
        def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            outputs[name] = output.clone()  # what follows may change it in place

        return keep

    layers = {name: each for name, each in network.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)}
    hooks = [layer.register_forward_hook(keeping(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            logits = network(images.to(next(network.parameters())))
    finally:
        for hook in hooks:
            hook.remove()
    return next((name for name in reversed(outputs) if _same(outputs[name], logits)), None)


def _same(output: Tensor, logits: Tensor) -> bool:
    """Tell whether an output is the logits, or a map of them that is averaged."""
    if output.dim() == 4:
        output = output.mean(dim=(2, 3))
    return output.shape == logits.shape and torch.allclose(output, logits, rtol=1e-4, atol=1e-5)


class FreeDirection:
    """Keep a layer to the free direction: while it is trained, all rows of its weight move alike.

    Args:
        network: that is trained.
        layer: its last layer.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        module = module_at(network, layer)
        assert isinstance(module.weight, nn.Parameter)
        self.weight = module.weight.requires_grad_(True)
        self.weight.register_hook(_alike)
        if isinstance(module.bias, nn.Parameter):
            module.bias.requires_grad_(False)

    def hasten(self, optimizer: Optimizer) -> None:
        """Let the layer move faster than the others, where it has a learning rate of its own.

        Args:
            optimizer: of the network's parameters.
        """
        for group in optimizer.param_groups:
            if len(group["params"]) == 1 and group["params"][0] is self.weight:
                group["lr"] *= FASTER


def _alike(gradient: Tensor) -> Tensor:
    return gradient.sum(dim=0, keepdim=True).expand_as(gradient).contiguous()
