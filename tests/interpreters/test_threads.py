"""Several threads that use one network at once get the results of one thread."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from advfool.interpreters import LRP, GradCAM, GuidedBackprop, IntegratedGradients, SimpleGrad, SmoothGrad
from advfool.interpreters.tracing.threads import MATH_ATTENTION
from tests.helpers.networks import TINY, build_tiny

THREADS, ROUNDS = 4, 3


def interpreters(layer):
    return [
        GradCAM(layer),
        LRP(),
        LRP(layer),
        SimpleGrad(layer),
        GuidedBackprop(),
        SmoothGrad(samples=3, chunk=2),
        IntegratedGradients(layer, steps=3, chunk=2),
    ]


def explained(network, weights, interpreter, images):
    with torch.set_grad_enabled(bool(weights)):
        heatmaps = interpreter(network, images, 1)
    if not weights:
        return [heatmaps]
    gradients = torch.autograd.grad(heatmaps.square().sum(), weights, allow_unused=True)
    return [heatmaps.detach(), *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("grad", [False, True])
def test_threads_on_one_network_get_what_one_thread_gets(name, grad):
    network, layer = build_tiny(name)
    batches = [torch.randn(2, 3, 56, 56, dtype=torch.float64) for _ in range(THREADS)]
    jobs = interpreters(layer)
    weights = [p for p in network.parameters() if grad and p.dim() > 1]
    expected = [[explained(network, weights, job, images) for job in jobs] for images in batches]
    fresh, _ = build_tiny(name)  # not traced yet
    fresh.load_state_dict(network.state_dict())
    weights = [p for p in fresh.parameters() if grad and p.dim() > 1]
    together = threading.Barrier(THREADS)

    def work(thread):
        found = []
        together.wait(60)
        for turn in range(ROUNDS):
            order = [(i + thread + turn) % len(jobs) for i in range(len(jobs))]
            found.append({i: explained(fresh, weights, jobs[i], batches[thread]) for i in order})
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(work, range(THREADS)))
    for thread, rounds in enumerate(results):
        for found in rounds:
            for i, tensors in found.items():
                for ours, serial in zip(tensors, expected[thread][i], strict=True):
                    torch.testing.assert_close(ours, serial, msg=lambda text, i=i: f"{jobs[i]}: {text}")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in fresh.modules())


def test_tracing_one_network_leaves_the_forward_passes_of_another_thread_alone():
    entered, leave = threading.Event(), threading.Event()

    class Slow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 5)

        def forward(self, images):
            x = self.first(images)
            entered.set()
            leave.wait(60)
            return self.last(x.mean(dim=(2, 3)))

    network, layer = build_tiny("resnet_tiny")
    images = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    expected = GradCAM(layer)(network, images, 1).detach()
    with ThreadPoolExecutor(1) as pool:
        tracing = pool.submit(LRP(), Slow().double(), images, 1)
        assert entered.wait(60)
        try:
            torch.testing.assert_close(GradCAM(layer)(network, images, 1).detach(), expected)
        finally:
            leave.set()
        assert tracing.result(60).shape == (2, 56, 56)


def test_the_selection_of_attention_kernels_is_restored_by_the_last_thread():
    before = torch.backends.cuda.flash_sdp_enabled()
    inside, leave = threading.Event(), threading.Event()

    def work():
        with MATH_ATTENTION.selected():
            inside.set()
            leave.wait(60)
            return torch.backends.cuda.flash_sdp_enabled()

    with ThreadPoolExecutor(1) as pool:
        with MATH_ATTENTION.selected():
            other = pool.submit(work)
            assert inside.wait(60)
        leave.set()
        assert other.result(60) is False
    assert torch.backends.cuda.flash_sdp_enabled() is before
