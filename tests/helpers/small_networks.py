"""Two convolutions, of which the tests make networks with odd forward passes."""

import torch
from torch import nn


class Small(nn.Module):
    """Two convolutions, of which `forward` of the tests' networks makes something."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 5)
        self.double().eval()

    def forward(self, images):
        x = self.act(self.first(images))
        return self.head(self.act(self.second(x)).mean(dim=(2, 3)))


class Between(Small):
    """A small network that does something of a test's choice between its convolutions.

    Args:
        between: receives the network and the first convolution's result, and returns what the second one reads.
        channels: the number of channels that it returns.
    """

    def __init__(self, between, channels=4):
        super().__init__()
        self.between = between
        self.scale = nn.Parameter(torch.tensor([0.5, -1.0, 2.0, 1.5]))
        self.plane = nn.Parameter(torch.tensor([0.3, -0.2, 0.1, 0.4]).view(1, 4, 1, 1))
        self.register_buffer("numbers", torch.tensor([1.0, 2.0, -3.0, 4.0]))
        torch.manual_seed(1)
        self.second = nn.Conv2d(channels, 4, 3, padding=1)
        self.double()

    def forward(self, images):
        x = self.between(self, self.first(images).relu())
        return self.head(self.second(x).relu().mean(dim=(2, 3)))


def some_images(n=2, size=8):
    return torch.randn(n, 3, size, size, dtype=torch.float64)
