"""Training with noise on the parameters: the noise is there for the gradients, and never stays."""

import copy
from functools import partial

import pytest
import torch
from pytorch_lightning import Callback

from advfool.evaluation.noise import parameter_noise
from advfool.foolings import Location
from advfool.interpreters import GradCAM
from advfool.training.finetune import finetune
from advfool.training.noisy import ParameterNoise
from advfool.training.preserve import CrossEntropy
from advfool.training.settings import Training
from advfool.training.trainers import steps_trainer
from advfool.utilities.errors import AdvfoolError
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup


class Watch(Callback):
    """Keeps the parameters before each step, as the optimizer and as the pass see them, and the gradients."""

    def __init__(self):
        self.seen, self.stepped, self.grads = [], [], []

    def on_before_backward(self, trainer, module, loss):
        self.seen.append([value.detach().clone() for value in module.network.parameters()])

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.stepped.append([value.detach().clone() for value in module.network.parameters()])
        self.grads.append([value.grad.clone() for value in module.network.parameters()])


def trained(tmp_path, lr, callback, steps=3):
    original, layer = build_tiny("resnet_tiny", torch.float32)
    setup = make_setup(original, GradCAM(layer, name="gradcam"), Location(), RandomData())
    training = Training(CrossEntropy(), partial(torch.optim.SGD, lr=lr), cache_original=False, select="last")
    for parameter in setup.original.parameters():
        parameter.requires_grad_(True)
    watch, before = Watch(), copy.deepcopy(original.state_dict())
    trainer = steps_trainer(str(tmp_path), steps, steps, [callback, watch], None, "cpu", False)
    return before, finetune(setup, training, trainer).network, watch


def test_without_a_learning_rate_the_parameters_stay_bit_for_bit(tmp_path):
    before, network, watch = trained(tmp_path, 0.0, ParameterNoise((0.3, 0.1)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    clean = list(network.parameters())
    for seen, stepped in zip(watch.seen, watch.stepped, strict=True):
        assert all(torch.equal(value, own) for value, own in zip(stepped, clean, strict=True))
        assert not all(torch.equal(value, own) for value, own in zip(seen, clean, strict=True))


def test_the_steps_take_turns_with_the_detectors_noise(tmp_path):
    _, network, watch = trained(tmp_path, 0.0, ParameterNoise((0.0, 0.2), seed=5))
    for step, seen in enumerate(watch.seen):
        with parameter_noise(network, (0.0, 0.2)[step % 2], 5 + step):
            assert all(torch.equal(value, own) for value, own in zip(seen, network.parameters(), strict=True))


def test_the_step_goes_from_the_clean_parameters_along_the_noisy_gradient(tmp_path):
    before, network, watch = trained(tmp_path, 0.01, ParameterNoise((0.2,)), steps=1)
    names = [name for name, _ in network.named_parameters()]
    for name, grad in zip(names, watch.grads[0], strict=True):
        torch.testing.assert_close(network.state_dict()[name], before[name] - 0.01 * grad)
    _, _, quiet = trained(tmp_path, 0.01, ParameterNoise((0.0,)), steps=1)
    assert not all(torch.allclose(one, other) for one, other in zip(watch.grads[0], quiet.grads[0], strict=True))


def test_an_error_on_the_way_leaves_no_noise(tmp_path):
    class Stop(Callback):
        def on_before_backward(self, trainer, module, loss):
            self.network = module.network
            raise KeyError("stop")

    callback, stop = ParameterNoise((0.5,)), Stop()
    original, layer = build_tiny("resnet_tiny", torch.float32)
    setup = make_setup(original, GradCAM(layer, name="gradcam"), Location(), RandomData())
    trainer = steps_trainer(str(tmp_path), 2, 2, [callback, stop], None, "cpu", False)
    with pytest.raises(KeyError, match="stop"):
        finetune(setup, Training(CrossEntropy(), cache_original=False), trainer)
    own = dict(stop.network.named_parameters())
    assert all(torch.equal(value, own[name]) for name, value in original.named_parameters())


@pytest.mark.parametrize("levels", [(), (-0.1,), (float("nan"),)])
def test_impossible_levels_are_refused(levels):
    with pytest.raises(AdvfoolError, match="levels"):
        ParameterNoise(levels)
