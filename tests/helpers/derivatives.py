"""Finite differences in float64 against automatic differentiation, parameter tensor by parameter tensor."""

import torch

STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


def worst_disagreement(network, loss, sample: int | None = None) -> tuple[float, str, float]:
    """The criterion of the project for a scalar `loss()` of the network's parameters.

    For each tensor, along a random direction of length 1: `|fd - ad| / max(|ad|, 1e-3 * largest |ad| of any tensor)`, with fd
    from whichever step crosses no kink (the best of the steps). `sample` looks at so many tensors, first and last
    among them, spread evenly over the network; the floor is always that of all.

    Returns:
        the largest ratio, the tensor it belongs to, and, of the tensors that the loss depends on (a last bias has no
        influence on a heatmap), the share whose |ad| is above the floor.
    """
    named = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss(), list(named.values()), allow_unused=True)
    generator = torch.Generator().manual_seed(1)
    directions = {k: torch.randn(p.shape, generator=generator, dtype=p.dtype) for k, p in named.items()}
    directions = {k: d / d.norm() for k, d in directions.items()}
    ad = {
        name: 0.0 if gradient is None else (gradient * directions[name]).sum().item()
        for (name, gradient) in zip(named, gradients, strict=True)
    }
    floor = 1e-3 * max(abs(value) for value in ad.values())
    worst = (0.0, "")
    looked_at = list(named)
    if sample is not None and sample < len(looked_at):
        looked_at = [looked_at[round(i * (len(looked_at) - 1) / (sample - 1))] for i in range(sample)]
    for name in looked_at:
        parameter = named[name]
        ratios = []
        for step in STEPS:
            fd = (_at(loss, parameter, directions[name], step) - _at(loss, parameter, directions[name], -step)) / (
                2 * step
            )
            ratios.append(abs(fd - ad[name]) / max(abs(ad[name]), floor))
            if ratios[-1] <= 1e-6:
                break
        worst = max(worst, (min(ratios), name))
    touched = [n for n, g in zip(named, gradients, strict=True) if g is not None and g.any()]
    above = sum(abs(ad[name]) > floor for name in touched) / len(touched)
    return (*worst, above)


@torch.no_grad()
def _at(loss, parameter, direction, step) -> float:
    original = parameter.detach().clone()
    parameter.add_(direction, alpha=step)
    try:
        return loss().item()
    finally:
        parameter.copy_(original)
