"""A network and images of a user's own: one grey channel, not square."""

import torch
from torch import nn

SHAPE = (1, 16, 24)


def own_network(outputs: int = 3, seed: int = 0) -> nn.Sequential:
    """A network with batch norm and dropout, of which evaluation and training modes differ."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6, outputs),
    )


def own_images(count: int = 40, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, *SHAPE, generator=generator), torch.arange(count) % classes


def state_of(network: nn.Module) -> tuple:
    """All that a function that must leave a network alone could change."""
    values = {name: value.detach().numpy().tobytes() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    flags = [(id(p), p.requires_grad, p.grad is None) for p in network.parameters()]
    return values, modes, flags
