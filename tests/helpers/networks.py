"""Tiny networks, and what can be done to them."""

import copy

import torch

from advfool.models import DenseNetTiny, ResNetTiny, VGGTiny

TINY = {
    "vgg_tiny": (VGGTiny, "features.14"),
    "resnet_tiny": (ResNetTiny, "layer3.1"),
    "densenet_tiny": (DenseNetTiny, "features.denseblock2.denselayer4"),
}


def build_tiny(name: str, dtype=torch.float64):
    build, layer = TINY[name]
    torch.manual_seed(0)
    network = build().to(dtype)
    network.train()
    with torch.no_grad():  # running statistics of real activations, not the initial 0 and 1
        for _ in range(20):
            network(torch.randn(16, 3, 56, 56, dtype=dtype))
    return network.eval(), layer


def snapshot(network):
    return (
        {name: id(p) for name, p in network.named_parameters()},
        {name: p.requires_grad for name, p in network.named_parameters()},
        {name: value.clone() for name, value in network.state_dict().items()},
        [m.training for m in network.modules()],
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()),
        [p.grad for p in network.parameters()],
    )


def out_of_place(network):
    network = copy.deepcopy(network)
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return network


def fit(network, images, labels, steps):
    """Train a small classifier on all images at once."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
