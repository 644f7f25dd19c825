"""The comparison of two tiny networks against its parts."""

import json

import pytest
import torch
from pytorch_lightning import Trainer

from advfool.data import DigitsModule, InputFormat
from advfool.data.composites import composite_splits
from advfool.data.samples import take
from advfool.evaluation.comparison import compare_networks
from advfool.evaluation.rows import stacked
from advfool.evaluation.setup import AOPCSettings, FaithfulnessSettings, NullSettings
from advfool.evaluation.summary import summarise
from advfool.foolings import Active, Location, Target, TopK
from advfool.interpreters import GradCAM, SimpleGrad
from advfool.metrics import deceived, faithfulness
from advfool.metrics.functional import spearman
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.heatmaps import is_degenerate
from advfool.utilities.ranking import rank_correlation
from tests.helpers.setups import make_setup
from tests.helpers.similarity import SIMILARITIES


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return DigitsModule(InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3), str(cache), limit_test=25, eval_batch_size=10)


def run(digits, networks, fooling, composites=None, **options):
    first, second, layer = networks
    interps = [GradCAM(layer, name="gradcam"), SimpleGrad(name="simplegrad")]
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        inference_mode=False,
    )
    setup = make_setup(first, interps, fooling, digits, composites, **options)
    return compare_networks(setup, second, trainer), setup


def test_every_row_is_what_the_parts_say(digits, networks):
    results, setup = run(digits, networks, TopK(), fsr_images=10)
    interps = list(setup.interpreters.values())
    assert results.images["index"].tolist() == list(range(25))
    measured = results.explained["index"]
    assert len(measured) == 10
    batch = take(digits.test(), measured.tolist())
    with torch.no_grad():
        for interp in interps:
            before, after = (interp(network, batch.image, batch.label) for network in networks[:2])
            row = {k.removesuffix("/manipulated"): v for k, v in results.explained.items() if f"/{interp.name}" in k}
            torch.testing.assert_close(row[f"test_loss/{interp.name}"], TopK().test_loss(after, before), equal_nan=True)
            expected = spearman(before.nan_to_num(0), after.nan_to_num(0)).float()
            torch.testing.assert_close(row[f"spearman/{interp.name}"], expected, equal_nan=True, rtol=1e-4, atol=1e-4)
        logits = networks[1](batch.image)
    assert torch.equal(results.explained["prediction/manipulated"], logits.argmax(dim=1))
    unmeasured = ~torch.isin(results.images["index"], measured)
    assert results.images["spearman/gradcam"][unmeasured].isnan().all()
    assert not results.images["top1/original"].isnan().any()


def test_the_map_of_another_class_is_that_of_the_original_networks_other_favourite(digits, networks):
    fooling = Target(picture="another_class")
    results, setup = run(digits, networks, fooling, nulls=NullSettings(("noise",), images=0))
    batch = take(digits.test(), range(25))
    for interp in setup.interpreters.values():
        with torch.no_grad():
            logits = networks[0](batch.image)
            logits[torch.arange(25), batch.label] = -torch.inf
            before, after = (interp(network, batch.image, batch.label) for network in networks[:2])
            other = interp(networks[0], batch.image, logits.argmax(dim=1))
        for name, maps in (("original", before), ("manipulated", after)):
            loss = rank_correlation(maps, other) - rank_correlation(maps, before)
            loss[is_degenerate(before) | is_degenerate(maps) | is_degenerate(other)] = torch.nan
            found = results.explained[f"test_loss/{interp.name}/{name}"]
            torch.testing.assert_close(found, loss.float(), equal_nan=True, rtol=1e-3, atol=1e-3)
        assert not results.nulls[f"noise/{interp.name}/test_loss"].isnan().all()


def test_active_fooling_is_measured_on_composites_and_accuracy_on_images(digits, networks):
    splits = composite_splits(digits, (3, 8), 20, 12)
    results, setup = run(digits, networks, Active(), splits)
    assert len(results.explained["index"]) == 12
    assert len(results.images["index"]) == 25
    summary = summarise(results, setup)
    assert summary["pair"] == {"c1": "3", "c2": "8"}
    for key in ("fsr", "fsr_before", "degenerate", "spearman"):
        assert set(summary[key]["gradcam"]) == {"c1", "c2"}
    assert set(summary["test_loss"]["gradcam"]["manipulated"]) == {"c1", "c2"}
    assert set(summary["box"]["gradcam"]["original"]["c1"]) == {"pointing", "mass"}
    assert set(summary["deceptive_rate"]["gradcam"]) == set(summary["n_deceptive"]["gradcam"]) == {"c1", "c2"}
    assert set(summary["faithfulness"]["gradcam"]["original"]) == {"c1", "c2"}
    for c, which in ((3, "c1"), (8, "c2")):
        of_class = results.images["label"] == c
        expected = results.images["top1/original"][of_class].mean().item()
        assert summary["accuracy"]["original"][which] == pytest.approx(expected)
        assert len(summary["ci95"]["fsr"]["gradcam"][which]) == 2
    # Against themselves the maps are never swapped.
    assert summary["fsr_before"]["gradcam"] == {"c1": 0, "c2": 0}


def test_aopc_curves_of_both_networks_and_maps(digits, networks):
    settings = AOPCSettings(images=9, steps=5, region=8)
    results, setup = run(digits, networks, Location(), aopc=settings)
    sources = [("gradcam", "original"), ("gradcam", "manipulated"), ("", "random")]
    expected = {(interp, network, source) for interp, source in sources for network in ("original", "manipulated")}
    assert set(results.aopc) == expected
    for curve in results.aopc.values():
        assert len(curve.points) == 6
        assert curve.points[0] == 0
        assert curve.value == pytest.approx(sum(curve.points) / 6)
        assert curve.interval[0] <= curve.value <= curve.interval[1]
    summary = summarise(results, setup)
    assert set(summary["aopc"]) == set(summary["ci95"]["aopc"]) == {"gradcam", "random"}


def test_faithfulness_and_deception_are_what_their_functions_say(digits, networks):
    settings = FaithfulnessSettings(images=9, random_orders=2, steps=3)
    results, setup = run(digits, networks, TopK(), faithfulness=settings)
    rows = results.explained
    tested = ~rows["faithful/gradcam/original"].isnan()
    assert tested.sum() == 9
    batch = take(digits.test(), rows["index"][tested].tolist())
    with torch.no_grad():
        before, after = (GradCAM(networks[2])(network, batch.image, batch.label) for network in networks[:2])
        predictions = [network(batch.image).argmax(dim=1) for network in networks[:2]]
    options = {"random_orders": 2, "steps": 3, "index": batch.index}
    found = [
        faithfulness(network, batch.image, batch.label, maps, **options)
        for network, maps in zip(networks[:2], (before, after), strict=True)
    ]
    for each, name in zip(found, ("original", "manipulated"), strict=True):
        torch.testing.assert_close(rows[f"faithfulness/gradcam/{name}"][tested], each.value.float(), atol=1e-4, rtol=0)
        assert torch.equal(rows[f"faithful/gradcam/{name}"][tested] == 1, each.faithful)
    kept, explained = predictions[0] == predictions[1], predictions[0] == batch.label
    loss, interval = TopK().test_loss(after, before), TopK().interval
    expected = deceived(loss, interval, kept, explained, *(each.faithful for each in found))
    torch.testing.assert_close(rows["deceived/gradcam"][tested], expected, equal_nan=True)
    assert rows["deceived/gradcam"][~tested].isnan().all()
    summary = summarise(results, setup)
    counted = expected[~expected.isnan()]
    assert summary["n_images_faithfulness"] == 9
    assert summary["n_deceptive"]["gradcam"] == len(counted)
    if len(counted):
        assert summary["deceptive_rate"]["gradcam"] == pytest.approx(counted.mean().item())
    assert summary["faithful_before"]["gradcam"] == pytest.approx(len(counted) / 9)
    assert set(summary["faithfulness"]["simplegrad"]) == {"original", "manipulated"}
    assert summary["n_misdirected"]["gradcam"] == (~rows["misdirected/gradcam"].isnan()).sum()


def test_without_faithfulness_there_is_no_deceptive_rate(digits, networks):
    results, setup = run(digits, networks, Location(), faithfulness=FaithfulnessSettings(images=0))
    summary = summarise(results, setup)
    assert not {"deceptive_rate", "faithfulness", "n_deceptive"} & set(summary)
    assert "misdirected_rate" in summary


def test_too_many_aopc_steps_are_refused_before_the_start():
    with pytest.raises(AdvfoolError, match=r"aopc\.steps=50: an image of 56x56 has 49 regions of 8x8\."):
        AOPCSettings(images=1, steps=50, region=8).check((56, 56), [])
    AOPCSettings(images=0, steps=50, region=8).check((56, 56), [])


def test_columns_a_batch_lacks_are_nan():
    rows = stacked([{"index": torch.tensor([0]), "x": torch.tensor([1.0])}, {"index": torch.tensor([1])}])
    assert rows["x"][0] == 1
    assert rows["x"][1].isnan()


def test_maps_that_are_not_finite_have_no_similarity_and_no_curve(digits, networks):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Broken(GradCAM):
        def read(self, recording, targets):
            maps = super().read(recording, targets).clone()
            maps[targets == 3, 0, 0] = torch.nan
            return maps

    first, second, layer = networks
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "inference_mode": False}
    trainer = Trainer(accelerator="cpu", **options)
    interp, settings = Broken(layer, name="broken"), AOPCSettings(images=25, steps=2, region=8)
    setup = make_setup(first, interp, TopK(), digits, aopc=settings)
    results = compare_networks(setup, second, trainer)
    broken = results.explained["label"] == 3
    assert broken.any()
    for name in SIMILARITIES:
        assert torch.equal(results.explained[f"{name}/broken"].isnan() & broken, broken), name
    assert results.explained["degenerate/broken/manipulated"][broken].all()
    assert all(torch.tensor(curve.points).isfinite().all() for curve in results.aopc.values())
    assert len(results.aopc) == 6
    result = summarise(results, setup)
    assert result["undefined"]["spearman"]["broken"] >= broken.float().mean()

    @dataclass(frozen=True)
    class Useless(GradCAM):
        def read(self, recording, targets):
            return torch.full_like(super().read(recording, targets), torch.nan)

    setup = make_setup(first, Useless(layer, name="no"), TopK(), digits, aopc=settings)
    results = compare_networks(setup, second, trainer)
    assert results.aopc == {}
    json.dumps(summarise(results, setup), allow_nan=False)
