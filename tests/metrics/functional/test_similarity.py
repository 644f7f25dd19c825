"""Similarities of heatmaps against scipy, scikit-image and torchmetrics."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from scipy.spatial.distance import cosine as cosine_distance
from torchmetrics.functional.image import structural_similarity_index_measure

from advfool.metrics import BadMaps, cosine, pearson, spearman, ssim, topk_intersection
from advfool.utilities.errors import AdvfoolError
from tests.helpers.similarity import maps, pairs

ALL = [spearman, pearson, cosine, ssim, topk_intersection]


def test_pearson_and_cosine_are_scipys():
    a, b = maps(), maps(seed=1) + 0.3
    flat = list(zip(a.flatten(1).numpy(), b.flatten(1).numpy(), strict=True))
    expected = torch.tensor([scipy.stats.pearsonr(*pair).statistic for pair in flat])
    torch.testing.assert_close(pearson(a, b), expected, rtol=0, atol=1e-12)
    expected = torch.tensor([1 - cosine_distance(*pair) for pair in flat])
    torch.testing.assert_close(cosine(a, b), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("data_range", [1.0, 2.0])
@pytest.mark.parametrize("side", [(6, 6), (7, 14), (32, 24)])
def test_ssim_is_torchmetrics(side, data_range):
    a, b = torch.rand(2, 4, *side, dtype=torch.float64)
    expected = structural_similarity_index_measure(
        a[:, None], b[:, None], data_range=data_range, reduction="none", sigma=1.5
    )
    torch.testing.assert_close(ssim(a, b, data_range), expected, rtol=0, atol=1e-12)


def test_ssim_is_scikit_images_away_from_the_border():
    """Maps that are equal from 5 pixels of the border on outwards: scikit-image's mean leaves those places out."""
    from skimage.metrics import structural_similarity

    a = torch.zeros(3, 32, 24, dtype=torch.float64)
    a[:, 10:22, 10:14] = torch.rand(3, 12, 4, dtype=torch.float64)
    b = a * torch.rand(3, 32, 24, dtype=torch.float64)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    inner = torch.tensor([structural_similarity(*pair, **settings) for pair in zip(a.numpy(), b.numpy(), strict=True)])
    everywhere = 1 - (1 - inner) * (32 - 10) * (24 - 10) / (32 * 24)  # 1 at all places near the border
    torch.testing.assert_close(ssim(a, b), everywhere, rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [(1, 1), (1, 8), (2, 2), (3, 5), (5, 5)])
def test_ssim_of_small_maps(side):
    a, b = torch.rand(2, 4, *side, dtype=torch.float64)
    assert ssim(a, b).isfinite().all()
    assert (ssim(a, b) < 1).all()
    torch.testing.assert_close(ssim(a, a), torch.ones(4, dtype=torch.float64))


def test_ssim_of_single_values_compares_brightness():
    a, b, c1 = 0.2, 0.6, 0.01**2
    expected = (2 * a * b + c1) / (a**2 + b**2 + c1)
    assert ssim(torch.full((1, 1, 1), a), torch.full((1, 1, 1), b)).item() == pytest.approx(expected, rel=1e-6)


def test_topk_intersection_by_sets():
    a, b = maps(5, 10, 10), maps(5, 10, 10, seed=1)
    for percent in (10, 25):
        tops = [[set(np.argsort(-m.numpy().ravel())[:percent]) for m in x] for x in (a, b)]
        expected = [len(x & y) / percent for x, y in zip(*tops, strict=True)]
        assert topk_intersection(a, b, percent).tolist() == pytest.approx(expected)


@given(pairs)
def test_symmetric_within_range_and_1_with_itself(pair):
    a, b = pair
    for similarity in ALL:
        found = similarity(a, b)
        torch.testing.assert_close(similarity(b, a), found, equal_nan=True)
        assert ((found >= -1) & (found <= 1 + 1e-12) | found.isnan()).all()
        itself = similarity(a, a)
        assert ((itself - 1).abs() < 1e-12)[~itself.isnan()].all()


@given(pairs)
def test_spearman_knows_ranks_alone_and_pearson_not_the_scale(pair):
    a, b = pair
    expected = spearman(a, b)
    for changed in (a.exp(), a**3, 5 * a - 2):
        torch.testing.assert_close(spearman(changed, b), expected, equal_nan=True)
    torch.testing.assert_close(spearman(-a, b), -expected, equal_nan=True)
    torch.testing.assert_close(pearson(5 * a - 2, b), pearson(a, b), equal_nan=True)
    torch.testing.assert_close(cosine(5e-200 * a, b), cosine(a, b), equal_nan=True)


@pytest.mark.parametrize("similarity", ALL)
def test_each_pair_by_itself(similarity):
    a, b = maps(4, 8, 8), maps(4, 8, 8, seed=1)
    alone = torch.cat([similarity(a[i : i + 1], b[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(similarity(a, b), alone)


@pytest.mark.parametrize("similarity", ALL)
def test_half_precision_maps(similarity):
    a, b = maps(4, 8, 8).half(), maps(4, 8, 8, seed=1).half()
    assert similarity(a, b).dtype == torch.float64
    assert torch.equal(similarity(a, b), similarity(a.double(), b.double()))


def test_pairs_without_a_similarity_are_nan():
    a, b = maps(4), maps(4, seed=1)
    a[1], b[2], b[3] = 0.1, -0.7, 0
    for similarity in (spearman, pearson, topk_intersection):
        assert similarity(a, b).isnan().tolist() == [False, True, True, True]
    assert cosine(a, b).isnan().tolist() == [False, False, False, True]
    assert not ssim(a, b).isnan().any()


@pytest.mark.parametrize("similarity", ALL)
def test_nan_is_refused_with_the_images(similarity):
    a, b = maps(12), maps(12, seed=1)
    b[2, 1, 1] = b[5] = torch.nan
    name = similarity.__name__
    advice = r"Leave these images out, or look for NaN in the network's weights and output\.$"
    message = rf"^{name} needs heatmaps without NaN, got NaN in the second heatmaps of images 2, 5\. {advice}"
    with pytest.raises(BadMaps, match=message):
        similarity(a, b)
    with pytest.raises(ValueError, match=r"in the first heatmaps of images 2, 5\."):
        similarity(b, a)
    a[:11] = torch.nan
    with pytest.raises(AdvfoolError, match=r"in the first heatmaps of images 0, 1, 2, 3, 4, 5, 6, 7 and 3 more\."):
        similarity(a, b)


@pytest.mark.parametrize("similarity", ALL)
def test_other_shapes_are_refused_with_both(similarity):
    message = (
        rf"^{similarity.__name__} compares heatmaps of the same shape, got \(2, 7, 7\) and \(2, 14, 14\)\. "
        r"Make one as large as the other with advfool\.utilities\.heatmaps\.resize\.$"
    )
    with pytest.raises(BadMaps, match=message):
        similarity(torch.rand(2, 7, 7), torch.rand(2, 14, 14))
