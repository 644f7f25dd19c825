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


def some_images(n=2, size=8):
    return torch.randn(n, 3, size, size, dtype=torch.float64)
