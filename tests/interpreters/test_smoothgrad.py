"""SmoothGrad is the mean over noisy copies, in bounded memory."""

import pytest
import torch

from advfool.interpreters import LRP, GradCAM, IntegratedGradients, SimpleGrad, SmoothGrad
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import normalise
from tests.helpers.gradients import close, gradients
from tests.helpers.networks import build_tiny


@pytest.mark.parametrize("relative", [False, True])
def test_smoothgrad_is_the_mean_over_noisy_copies(relative):
    network, _ = build_tiny("resnet_tiny")
    images, targets = torch.randn(3, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 5, 2])
    ours = SmoothGrad(samples=5, std=0.2, relative=relative, seed=7)(network, images, targets)
    noise = torch.randn(5, 1, 3, 56, 56, generator=torch.Generator().manual_seed(7)).double()
    span = images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)) if relative else torch.ones(3)
    total = 0
    for draw in noise:
        noisy = (images + 0.2 * draw * span[:, None, None, None]).requires_grad_()
        score = network(noisy)[torch.arange(3), targets].sum()
        total = total + torch.autograd.grad(score, noisy)[0].abs().sum(1)
    torch.testing.assert_close(ours.detach(), normalise(total))


@pytest.mark.parametrize("interpreter", [SimpleGrad(), LRP("layer3.1"), GradCAM("layer3.1")])
def test_memory_is_bounded_without_changing_anything(interpreter):
    network, _ = build_tiny("resnet_tiny")
    images, targets = torch.randn(2, 3, 56, 56, dtype=torch.float64), torch.tensor([1, 5])
    together, bounded = (SmoothGrad(interpreter, samples=5, chunk=chunk) for chunk in (5, 2))
    maps = [smooth(network, images, targets) for smooth in (together, bounded)]
    torch.testing.assert_close(*maps)
    close(gradients(network, maps[1]), gradients(network, maps[0]))


def test_measuring_repeats_and_training_draws_anew():
    network, layer = build_tiny("resnet_tiny")
    images = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    smooth = SmoothGrad(LRP(layer, training_leak=0.1), samples=3)
    torch.testing.assert_close(smooth(network, images, 3), smooth(network, images, 3), atol=0, rtol=0)
    torch.testing.assert_close(smooth(network, images[1:], 3), smooth(network, images, 3)[1:])
    training = smooth.for_training()
    assert training.interpreter.leak == 0.1
    assert not torch.equal(training(network, images, 3), training(network, images, 3))
    # Fresh draws while the bounded pass is run again for its gradient would give another gradient than the map's.
    bounded, together = (SmoothGrad(samples=4, chunk=chunk, fresh=True) for chunk in (1, 4))
    found = []
    for interpreter in (bounded, together):
        torch.manual_seed(3)
        found.append(gradients(network, interpreter(network, images, 3)))
    close(*found)


def test_smoothgrad_without_noise_is_the_interpreter():
    network, layer = build_tiny("resnet_tiny")
    images = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    for interpreter in (LRP(), LRP(layer), GradCAM(layer), SimpleGrad(layer)):
        smooth = SmoothGrad(interpreter, samples=2, std=0)
        assert smooth.normalise == interpreter.normalise
        torch.testing.assert_close(smooth(network, images, 3), interpreter(network, images, 3))


def test_bad_settings_are_refused():
    with pytest.raises(AdvfoolError, match="samples must be a whole number of at least 1, got 0"):
        SmoothGrad(samples=0)
    with pytest.raises(AdvfoolError, match="chunk must be a whole number of at least 1, got 0"):
        IntegratedGradients(chunk=0)
    with pytest.raises(AdvfoolError, match="std must be a number of at least 0, got -1.0"):
        SmoothGrad(std=-1.0)
