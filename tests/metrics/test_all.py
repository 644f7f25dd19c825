"""The torchmetrics classes: over batches, over processes, and empty."""

import warnings
from functools import partial

import pytest
import scipy.stats
import torch
from torch import distributed, nn
from torch.multiprocessing import spawn

from advfool import metrics
from advfool.metrics import ImageMean, functional

PAIRS = {  # of heatmaps
    "spearman": functional.spearman,
    "pearson": functional.pearson,
    "cosine": functional.cosine,
    "ssim": functional.ssim,
    "topk_intersection": functional.topk_intersection,
}
LOGITS = {
    "prediction_agreement": functional.prediction_agreement,
    "kl_divergence": functional.kl_divergence,
}
N = 7


def images(n=N, seed=0):
    """Pairs of maps, of which one pair has no similarity, pairs of logits, test losses, images with targets."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, n, 8, 8, generator=generator)
    maps[:, 1] = 0
    logits = torch.randn(2, n, 5, generator=generator)
    losses = torch.rand(n, generator=generator)
    losses[2] = torch.nan
    return maps, logits, losses, torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n) % 4


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


def updated(batches):
    """All metrics, updated with the images of each batch."""
    maps, logits, losses, pictures, targets = images()
    found = [ImageMean(name) for name in (*PAIRS, *LOGITS)]
    found += [metrics.FoolingSuccessRate((0.0, 0.5)), metrics.AOPC(steps=9, region=2, order="random")]
    for batch in batches:
        for metric in found[: len(PAIRS)]:
            metric.update(*maps[:, batch])
        for metric in found[len(PAIRS) : -2]:
            metric.update(*logits[:, batch])
        found[-2].update(losses[batch])
        found[-1].update(network(), pictures[batch], targets[batch], maps[0, batch])
    return found


def values(found):
    aopc = found[-1]
    parts = [*(metric.compute() for metric in found), aopc.interval(), aopc.curve()]
    return torch.cat([part.double().flatten() for part in parts])


@pytest.mark.parametrize("batches", [[range(N)], [range(3), range(3, 7)], [[i] for i in range(N)]])
def test_states_over_batches_are_the_functions_of_everything(batches):
    maps, logits, losses, pictures, targets = images()
    found = updated([list(batch) for batch in batches])
    for metric, function in zip(found, PAIRS.values(), strict=False):
        every = function(*maps)
        torch.testing.assert_close(metric.compute(), every.nanmean())
        assert metric.undefined == every.isnan().sum()
    for metric, function in zip(found[len(PAIRS) :], LOGITS.values(), strict=False):
        torch.testing.assert_close(metric.compute(), function(*logits).double().mean())
    assert found[-2].compute() == functional.fooling_success_rate(losses, (0.0, 0.5))

    curves = functional.aopc(network(), pictures, targets, maps[0], steps=9, region=2, order="random")
    every = functional.aopc_value(curves)
    torch.testing.assert_close(found[-1].compute(), every.mean())
    torch.testing.assert_close(found[-1].curve(), curves.mean(dim=0))
    low, high = scipy.stats.norm.interval(0.95, every.mean(), every.std() / N**0.5)
    assert found[-1].interval().tolist() == pytest.approx([low, high], abs=1e-5)


def test_aopc_knows_images_by_their_pixels_whoever_sees_them_first():
    maps, _, _, pictures, targets = images()
    one, two, called = (metrics.AOPC(9, 2, order="random") for _ in range(3))
    one.update(network(), pictures, targets, maps[0])
    for part in (slice(3, 7), slice(3)):
        two.update(network(), pictures[part], targets[part], maps[0, part])
        called(network(), pictures[part], targets[part], maps[0, part])
    torch.testing.assert_close(one.curve(), two.curve())
    torch.testing.assert_close(one.curve(), called.curve())


def test_means_over_images_with_boxes_and_labels():
    maps, logits, _, _, targets = images()
    box = torch.tensor([2.0, 2.0, 12.0, 14.0]).expand(N, 4)
    for metric, function, arguments in (
        (ImageMean("points_into"), functional.points_into, (maps[0], box, (16, 16))),
        (ImageMean("mass_inside"), functional.mass_inside, (maps[0], box, (16, 16))),
        (ImageMean("top_k_correct", k=2), partial(functional.top_k_correct, k=2), (logits[0], targets)),
    ):
        every = function(*arguments).double()
        for part in (slice(3), slice(3, 7)):
            metric.update(*(values[part] if torch.is_tensor(values) else values for values in arguments))
        torch.testing.assert_close(metric.compute(), every.nanmean())
        assert metric.undefined == every.isnan().sum()


def test_every_metric_takes_its_functions_arguments_by_name():
    maps, logits, losses, pictures, targets = images()
    pair = {"original_logits": logits[0], "manipulated_logits": logits[1]}
    box = {"heatmap": maps[0], "box": torch.tensor([1.0, 1, 5, 5]).expand(N, 4), "size": (8, 8)}
    flipping = {"model": network(), "images": pictures, "targets": targets, "heatmaps": maps[0]}
    given = [(ImageMean(name), dict(zip("ab", maps, strict=True))) for name in PAIRS]
    given += [(ImageMean(name), pair) for name in LOGITS]
    given += [(ImageMean("points_into"), box), (ImageMean("mass_inside"), box), (metrics.AOPC(9, 2), flipping)]
    given += [(ImageMean("top_k_correct", k=1), {"logits": logits[0], "labels": targets})]
    for metric, arguments in [*given, (metrics.FoolingSuccessRate((0, 1)), {"test_loss": losses})]:
        metric.update(**arguments)
        assert metric.compute().isfinite()


def test_ties_of_logits_go_by_index_as_predictions_do():
    logits = torch.zeros(3, 10)
    logits[1, [4, 7]] = 1.0
    labels = logits.argmax(dim=1)
    assert functional.top_k_correct(logits, labels, 1).all()
    assert functional.top_k_correct(logits[1:2], torch.tensor([7]), 2).all()
    assert not functional.top_k_correct(logits[1:2], torch.tensor([7]), 1).any()


def test_classes_pass_their_settings_on():
    maps, _, _, pictures, targets = images()
    for metric, expected in (
        (ImageMean("ssim", data_range=2.0), functional.ssim(*maps, 2.0)),
        (ImageMean("topk_intersection", percent=30), functional.topk_intersection(*maps, 30)),
    ):
        metric.update(*maps)
        torch.testing.assert_close(metric.compute(), expected.nanmean())
    settings = {"steps": 3, "region": 1, "order": "least_relevant_first", "replacement": "uniform", "seed": 9}
    settings["pixel_range"] = (0.0, [1.0])
    metric = metrics.AOPC(**settings)
    metric.update(network(), pictures, targets, maps[0])
    expected = functional.aopc(network(), pictures, targets, maps[0], **settings)
    torch.testing.assert_close(metric.curve(), expected.mean(dim=0))


def test_nothing_seen_is_nan():
    found = [ImageMean(name) for name in (*PAIRS, *LOGITS)] + [metrics.FoolingSuccessRate((0.0, 1.0)), metrics.AOPC(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchmetrics: compute before update
        assert all(metric.compute().isnan() for metric in found)
    assert found[-1].curve().isnan().all()
    assert found[-1].interval().isnan().all()
    found[0].update(torch.zeros(2, 3, 3), torch.rand(2, 3, 3))
    assert found[0].compute().isnan()
    assert found[0].undefined == 2


def test_one_image_has_no_interval():
    aopc = updated([[4]])[-1]
    assert aopc.compute().isfinite()
    assert aopc.interval().isnan().all()


def test_reset_starts_anew():
    expected = values(updated([[0, 3]]))
    found = updated([[0, 3]])
    for metric in found:
        metric.reset()
    assert found[0].undefined == found[-1].count == 0
    assert torch.equal(values(updated([[0, 3]])), expected)


def test_two_processes_agree_with_one(tmp_path):
    """5 images in two batches here, 2 in one batch there; both processes know everything afterwards."""
    expected = updated([[0, 1, 2], [3, 4], [5, 6]])
    spawn(_process, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found["values"], values(expected))
        torch.testing.assert_close(found["in context"], expected[-1].curve())
        assert found["undefined"] == expected[0].undefined == 1
        assert found["own"] == [5, 2][rank]


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = updated([[[0, 1, 2], [3, 4]], [[5, 6]]][rank])
    with found[0].sync_context():
        undefined = found[0].undefined.item()
    with found[-1].sync_context():
        curve = found[-1].curve()
    results = {"values": values(found), "in context": curve, "undefined": undefined, "own": found[-1].count.item()}
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
