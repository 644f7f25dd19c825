"""The registry of metrics: what is in it, and metrics of one's own."""

import pickle

import pytest
import torch

from advfool.metrics import AOPC, METRICS, ImageMean, aopc, aopc_of_images, aopc_value, metric
from advfool.utilities.errors import AdvfoolError


@pytest.fixture
def registry():
    """Lets a test register metrics that are gone afterwards."""
    before = dict(METRICS)
    yield METRICS
    METRICS.clear()
    METRICS.update(before)


def largest_change(original, manipulated, power=1):
    return (original - manipulated).abs().amax(dim=(1, 2)) ** power


def test_the_similarities_are_in_the_order_of_the_tables():
    found = [name for name, each in METRICS.items() if each.needs == ("pair of maps",)]
    assert found == ["spearman", "pearson", "cosine", "ssim", "topk_intersection"]
    assert set(METRICS) - set(found) == {
        "aopc",
        "points_into",
        "mass_inside",
        "top_k_correct",
        "prediction_agreement",
        "kl_divergence",
    }


@pytest.mark.parametrize("name", METRICS)
def test_values_lie_in_the_stated_range(name):
    facts = METRICS[name]
    maps, logits = torch.rand(2, 6, 8, 8), torch.randn(2, 6, 4)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    arguments = {
        "top_k_correct": (logits[0], torch.arange(6) % 4, 2),
        "aopc": (network, torch.randn(6, 1, 8, 8), torch.arange(6) % 4, maps[0]),
    }
    kinds = {
        "pair of maps": maps,
        "logits": logits,
        "box": (maps[0], torch.tensor([[2.0, 2, 6, 6]]).expand(6, 4), (8, 8)),
    }
    settings = {"steps": 4, "region": 2} if name == "aopc" else {}
    values = facts.function(*(arguments.get(name) or kinds[facts.needs[0]]), **settings).double()
    low, high = facts.range
    assert values.shape == (6,)
    assert low is None or values.min() >= low
    assert high is None or values.max() <= high


def test_the_aopc_of_images_is_that_of_their_curves():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    given = network, torch.randn(6, 1, 8, 8), torch.arange(6) % 4, torch.rand(6, 8, 8)
    expected = aopc_value(aopc(*given, steps=4, region=2, order="random"))
    assert torch.equal(aopc_of_images(*given, steps=4, region=2, order="random"), expected)


def test_a_metric_of_ones_own_is_registered_with_its_facts_and_averaged(registry):
    assert metric(needs=("pair of maps",), direction="lower", range=(0, None))(largest_change) is largest_change
    facts = registry["largest_change"]
    assert list(registry)[-1] == facts.name == "largest_change"
    assert (facts.direction, facts.range, facts.needs) == ("lower", (0, None), ("pair of maps",))
    mean = ImageMean("largest_change", power=2)
    mean.update(torch.zeros(2, 3, 3), torch.tensor([0.5, 1.0])[:, None, None].expand(2, 3, 3))
    assert pickle.loads(pickle.dumps(mean)).compute() == mean.compute() == (0.25 + 1) / 2
    assert mean.higher_is_better is False
    metric(needs=("pair of maps",), range=(0, 1))(largest_change)  # its module may be loaded again
    assert ImageMean("largest_change").higher_is_better is None


def test_directions_are_those_that_torchmetrics_knows():
    assert ImageMean("spearman").higher_is_better is True
    assert ImageMean("kl_divergence").higher_is_better is False
    assert AOPC.higher_is_better is True


def test_what_cannot_be_registered_or_found(registry):
    facts = {"needs": ("pair of maps",), "range": (0, 1)}
    with pytest.raises(AdvfoolError, match=r"expected a name that is not taken, got 'ssim', which is advfool.*\.ssim"):
        metric(name="ssim", **facts)(largest_change)
    with pytest.raises(AdvfoolError, match="expected a name of letters, digits and underscores, got 'a/b'"):
        metric(name="a/b", **facts)(largest_change)
    with pytest.raises(AdvfoolError, match=r"There is no metric 'spearmann'\. Close to it: spearman,"):
        ImageMean("spearmann")
    assert registry == METRICS
