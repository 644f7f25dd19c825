"""Random networks of all supported operations: LRP against a slow oracle, recorded logits against the network's."""

import os

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advfool.interpreters import LRP
from advfool.interpreters.lrp import AlphaBeta, Composite, Epsilon, Flat, Gamma, Norm, Sum, ZPlus
from advfool.interpreters.tracing.recording import record
from tests.helpers.slow_lrp import NAMES, SAME_SHAPE, Residual, SlowLRP, build

EXAMPLES = int(os.environ.get("ADVFOOL_EXAMPLES", 60))  # more by hand
LARGE = 1e-2  # a stabiliser that keeps the division by sums near zero from amplifying rounding
CONVOLUTIONS = (ZPlus(LARGE), AlphaBeta(2, 1, LARGE), Gamma(0.25, LARGE), Epsilon(LARGE))
STEPS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.tuples(st.sampled_from(Residual.WAYS), st.lists(st.sampled_from(SAME_SHAPE), min_size=1, max_size=3)),
)


@given(
    st.lists(STEPS, min_size=1, max_size=6),
    st.integers(0, 10**6),
    st.sampled_from(CONVOLUTIONS),
    st.sampled_from([None, Flat(LARGE)]),
    st.booleans(),
)
@settings(max_examples=EXAMPLES, derandomize="ADVFOOL_EXAMPLES" not in os.environ, print_blob=True)
def test_random_networks_agree_with_the_definitions(plan, seed, convolution, first, grad):
    network = build(plan, seed=seed)
    images = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    composite = Composite(convolution, Epsilon(LARGE), first, Sum(LARGE), Norm(LARGE))
    interpreter = LRP(composite=composite, normalise="none")
    slow = SlowLRP(convolution, Epsilon(LARGE), first, LARGE)
    expected = torch.cat([slow(network, image[None], 1) for image in images]).sum(1)
    with torch.set_grad_enabled(grad):
        logits = record(network, images, [interpreter]).logits
        found = interpreter(network, images, 1)
    torch.testing.assert_close(logits.detach(), network(images).detach(), rtol=1e-10, atol=1e-10)
    scale = max(expected.abs().max().item(), 1e-6)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-6, atol=1e-6 * scale)
