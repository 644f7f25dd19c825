import numpy as np
import pytest
import torch

from advfool.foolings import Location
from advfool.metrics import FoolingSuccessRate, fooling_success_rate
from advfool.utilities.errors import AdvfoolError


def by_the_paper(heatmap: np.ndarray) -> float:
    """Equation 3 for one map, with loops."""
    height, width = heatmap.shape
    edge = min(height, width) // 7
    total = 0.0
    for row in range(height):
        for col in range(width):
            on_frame = row < edge or col < edge or row >= height - edge or col >= width - edge
            total += (heatmap[row, col] - (1.0 if on_frame else 0.0)) ** 2
    return total / (height * width)


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (8, 11)])
def test_penalty_is_equation_3(shape):
    heatmaps = torch.rand(5, *shape, dtype=torch.float64)
    expected = torch.tensor([by_the_paper(h.numpy()) for h in heatmaps])
    torch.testing.assert_close(Location().penalty(heatmaps), expected)
    torch.testing.assert_close(Location().test_loss(heatmaps), expected)


def test_the_perfect_frame_has_no_penalty_and_is_fooled():
    from advfool.utilities.heatmaps import frame_mask

    loss = Location().test_loss(frame_mask(7, 7)[None])
    assert loss.tolist() == [0]
    assert fooling_success_rate(loss, Location.interval) == 1


def test_degenerate_maps_are_never_fooled_but_can_be_trained_on():
    heatmaps = torch.stack([torch.zeros(7, 7), torch.ones(7, 7), -torch.rand(7, 7)]).requires_grad_()
    assert Location().test_loss(heatmaps).isnan().all()
    assert fooling_success_rate(Location().test_loss(heatmaps), Location.interval) == 0
    Location().penalty(heatmaps).sum().backward()
    assert heatmaps.grad.isfinite().all()


def test_signed_maps_are_rectified_and_normalised_again():
    signed = torch.randn(4, 7, 7) * 0.3
    positive = signed.relu()
    expected = Location().penalty(positive / positive.amax(dim=(1, 2), keepdim=True))
    torch.testing.assert_close(Location().test_loss(signed), expected)


def test_test_loss_carries_no_gradient():
    assert not Location().test_loss(torch.rand(2, 7, 7, requires_grad=True)).requires_grad


def test_small_maps_are_refused_with_the_size_needed():
    with pytest.raises(AdvfoolError, match=r"fooling=location needs heatmaps of at least 7x7, got 4x4\."):
        Location().penalty(torch.rand(1, 4, 4))


def test_fooling_success_rate_over_batches():
    losses = torch.tensor([0.0, 0.2, 0.2001, torch.nan, 0.1, 5.0])
    metric = FoolingSuccessRate((0.0, 0.2))
    for batch in losses.split(4):
        metric.update(batch)
    assert metric.compute() == fooling_success_rate(losses, (0.0, 0.2)) == 0.5
