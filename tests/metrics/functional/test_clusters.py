"""Images that are not independent: variances and intervals against loops, and their coverage in simulations."""

import numpy as np
import pytest
import torch

from advfool.metrics import AOPC, bootstrap_interval, mean_interval, paired_interval
from advfool.metrics.functional.clusters import numbered, spread_of_mean
from advfool.utilities.errors import AdvfoolError


def slow_variance(values, sources):
    """From the definition: over all pairs of images that have a source in common."""
    known = [i for i, value in enumerate(values) if value == value]
    mean = sum(values[i] for i in known) / len(known)
    products = [
        (values[i] - mean) * (values[j] - mean) for i in known for j in known if set(sources[i]) & set(sources[j])
    ]
    shared = len(products) / len(known) ** 2
    total = sum(products)
    if len(sources[0]) > 1:
        total = max(total, sum((values[i] - mean) ** 2 for i in known))
    return total / len(known) ** 2 / (1 - shared)


@pytest.mark.parametrize("several", [1, 2, 4])
def test_variance_is_that_of_a_loop_over_pairs_of_images(several):
    generator = torch.Generator().manual_seed(several)
    sources = torch.randint(30, (40, several), generator=generator)  # a source may be named twice
    values = torch.rand(40, generator=generator).double()
    values[::7] = torch.nan
    found = spread_of_mean(values[:, None].numpy(), numbered(sources, 40)).variance.item()
    assert found == pytest.approx(slow_variance(values.tolist(), sources.tolist()))


def test_clusters_of_one_image_are_no_clusters():
    values, other = torch.rand(2, 50, generator=torch.Generator().manual_seed(0))
    own = torch.arange(50)
    assert mean_interval(values) == pytest.approx(mean_interval(values, own), rel=0.02)
    assert paired_interval(values, other)[1] == pytest.approx(paired_interval(values, other, clusters=own)[1])
    plain, clustered = (torch.stack(bootstrap_interval(values, clusters=c)) for c in (None, own))
    torch.testing.assert_close(plain, clustered, rtol=0.02, atol=0.005)
    torch.testing.assert_close(clustered, torch.stack(bootstrap_interval(values, clusters=own[:, None])))


def test_whole_clusters_are_drawn_as_a_loop_draws_them():
    generator = torch.Generator().manual_seed(0)
    clusters = torch.randint(40, (120,), generator=generator)
    values = torch.rand(40, generator=generator)[clusters] + 0.1 * torch.rand(120, generator=generator)
    values[5] = torch.nan
    names, rng, means = clusters.unique().tolist(), np.random.default_rng(1), []
    for _ in range(1000):
        rows = torch.cat([(clusters == name).nonzero()[:, 0] for name in rng.choice(names, len(names))])
        means.append(values[rows].double().nanmean().item())
    expected = np.percentile(means, [2.2, 97.8])  # a little outside of 2.5 and 97.5
    assert torch.stack(bootstrap_interval(values, clusters=clusters)).tolist() == pytest.approx(expected, abs=0.012)


def test_one_image_and_one_cluster_have_no_interval_and_nan_is_left_out():
    values = torch.tensor([0.0, 1.0, 1.0, 0.0])
    for clusters in (torch.zeros(4).long(), torch.zeros(4, 2).long(), torch.tensor([[1, 2]]).expand(4, 2)):
        assert torch.stack(bootstrap_interval(values, clusters=clusters)).isnan().all()
        assert mean_interval(values, clusters) is None
    assert torch.stack(bootstrap_interval(values[:1], clusters=torch.tensor([3]))).isnan().all()
    assert mean_interval(values[:1]) is None
    lacking = torch.cat([values, torch.full((2,), torch.nan)])
    clusters = torch.tensor([5, 5, 7, 8, 8, 9])
    ends = torch.stack(bootstrap_interval(torch.stack([lacking, lacking * torch.nan], dim=1), clusters=clusters))
    assert ends[:, 0].isfinite().all()
    assert ends[:, 1].isnan().all()


def test_clusters_that_do_not_fit_are_refused():
    for clusters in (torch.zeros(3).long(), torch.rand(4), torch.zeros(4, 9).long(), torch.zeros(4, 1, 1).long()):
        with pytest.raises(AdvfoolError, match="clusters: expected a whole number"):
            bootstrap_interval(torch.rand(4), clusters=clusters)


def coverage(rate, draw, repeats=250):
    """Percent of intervals that contain the rate: by clusters, and as if all images were independent."""
    hits = np.zeros(2)
    for seed in range(repeats):
        values, clusters = draw(rate)
        for place, of in enumerate((clusters, None)):
            low, high = bootstrap_interval(values, draws=200, seed=seed, clusters=of)
            hits[place] += bool(low <= rate <= high)
    return 100 * hits / repeats


def drawings(rate, scans=120, each=3):
    """Three images of each scan, alike in part."""
    scan = torch.arange(scans).repeat_interleave(each)
    latent = 0.8**0.5 * torch.randn(scans)[scan] + 0.2**0.5 * torch.randn(len(scan))
    return (latent < torch.special.ndtri(torch.tensor(rate))).double(), scan


def composites(rate, photos=100, count=300):
    """Two photos of each of two classes."""
    own = [torch.rand(count, photos).argsort(dim=1)[:, :2] + photos * which for which in range(2)]
    sources = torch.cat(own, dim=1)
    latent = (0.8 / 4) ** 0.5 * torch.randn(2 * photos)[sources].sum(dim=1) + 0.2**0.5 * torch.randn(count)
    return (latent < torch.special.ndtri(torch.tensor(rate))).double(), sources


@pytest.mark.parametrize("draw", [drawings, composites])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_intervals_by_clusters_contain_the_rate_as_often_as_they_say(draw, rate):
    torch.manual_seed(0)
    by_clusters, independent = coverage(rate, draw)
    assert 92 <= by_clusters <= 98  # 93 to 97 %, and what 250 repeats leave open
    assert independent < 90


def test_aopc_interval_is_by_clusters_where_they_are_known():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    pictures, maps, targets = torch.randn(4, 1, 8, 8), torch.rand(4, 8, 8), torch.arange(4)
    plain, known = AOPC(steps=9, region=2), AOPC(steps=9, region=2)
    plain.update(network, pictures, targets, maps)
    for part in (slice(0, 1), slice(1, 4)):
        known.update(network, pictures[part], targets[part], maps[part], None, torch.tensor([7, 7, 8, 9])[part])
    values = torch.cat(list(known.values))
    assert known.interval().tolist() == pytest.approx(mean_interval(values, torch.tensor([7, 7, 8, 9])))
    assert plain.interval().tolist() == pytest.approx(mean_interval(values))
