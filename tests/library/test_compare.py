"""`advfool.compare`: two networks on test images, without a training."""

import copy

import pytest
import torch

import advfool
from advfool.evaluation.summary import summarise
from advfool.foolings import Location
from advfool.interpreters import GradCAM
from advfool.utilities.errors import AdvfoolError
from tests.helpers.own_network import SHAPE, own_images, own_network, state_of


def changed(network, by=0.3):
    other = copy.deepcopy(network)
    with torch.no_grad():
        other[3].weight.add_(by * torch.randn_like(other[3].weight))
    return other


def compare(first, second, dataset=None, interpreters=("gradcam", "simplegrad"), **options):
    dataset = own_images() if dataset is None else dataset
    return advfool.compare(first, second, dataset, interpreters, accelerator="cpu", **options)


def test_both_networks_are_left_as_they_are():
    first = own_network().train()
    second = changed(first).eval()
    before = state_of(first), state_of(second)
    result = compare(first, second)
    assert (state_of(first), state_of(second)) == before
    assert not result.original.training
    assert not result.model.training


def test_a_network_against_itself_and_against_another():
    first = own_network()
    same, other = compare(first, first).metrics, compare(first, changed(first)).metrics
    assert list(same["fsr"]) == same["evaluate_with"] == ["gradcam", "simplegrad"]
    assert (same["agreement"], same["accuracy"]["drop"]["top1"]) == (1, 0)
    for interp in same["fsr"]:
        assert same["spearman"][interp] == pytest.approx(1)
        assert other["spearman"][interp] < 0.999
        assert same["fsr"][interp] == same["fsr_before"][interp] == other["fsr_before"][interp]
    assert other["kl"] > same["kl"] == pytest.approx(0, abs=1e-7)
    assert not {"steps", "train_seconds", "interp"} & set(same)


def test_numbers_are_those_of_the_parts():
    first = own_network()
    result = compare(first, changed(first), interpreters=[GradCAM("3", name="mine")], fooling=Location(name="own"))
    rows, test = result.results.explained, result.setup.data.test()
    images = torch.stack([test[i].image for i in range(len(test))])
    for name, network in (("original", result.original), ("manipulated", result.model)):
        maps = GradCAM("3")(network, images, test.labels()).detach()
        loss = Location().test_loss(maps)
        torch.testing.assert_close(rows[f"test_loss/mine/{name}"], loss, equal_nan=True)
        assert torch.equal(rows[f"prediction/{name}"], network(images).argmax(dim=1))
    assert result.metrics == summarise(result.results, result.setup)
    assert result.metrics["fooling"] == "own"


def test_the_seed_chooses_the_same_test_images_as_in_fooling():
    first, options = own_network(), {"accelerator": "cpu", "seed": 2}
    fooled = advfool.fool(
        first, own_images(), "simplegrad", steps=2, validations=1, max_accuracy_drop=1.0, progress=False, **options
    )
    compared = advfool.compare(first, fooled.model, own_images(), ["simplegrad"], **options)
    assert compared.setup.data.test().digest() == fooled.setup.data.test().digest()
    assert compared.metrics == {key: fooled.metrics[key] for key in compared.metrics}


def test_heatmaps_and_files(tmp_path):
    first = own_network()
    result = compare(first, changed(first), aopc_images=2, fsr_images=6)
    maps = result.heatmaps(own_images()[0][:3], interp="simplegrad")
    assert maps["original"].shape == maps["manipulated"].shape == (3, *SHAPE[1:])
    assert set(result.metrics["aopc"]) == {"gradcam", "random"}
    assert (result.metrics["n_images"], result.metrics["n_images_fsr"]) == (8, 6)
    result.save(tmp_path / "compared")
    assert (tmp_path / "compared" / "heatmaps.png").stat().st_size > 0
    loaded = advfool.load_fooled(tmp_path / "compared", model=own_network(seed=3))
    assert torch.equal(loaded[3].weight, result.model[3].weight)


def test_without_labels_the_originals_predictions_are_explained():
    first = own_network()
    metrics = compare(first, changed(first), own_images()[0]).metrics
    assert metrics["target"] == "predicted"
    assert metrics["accuracy"]["original"]["top1"] == 1
    assert metrics["accuracy"]["manipulated"]["top1"] == metrics["agreement"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpreters": []}, "There is no interpreter to evaluate with: give one that works"),
        ({"interpreters": ["gradcam", "nothing"]}, "There is no interpreter 'nothing'. Close to it: "),
        ({"interpreters": ["gradcam", "gradcam"]}, "interpreters: two have the name 'gradcam'"),
        ({"fooling": "nothing"}, "There is no fooling 'nothing'. Close to it: "),
        ({"layer": "nothing"}, "nothing"),
        ({"target": "nothing"}, "target must be one of label, predicted, got 'nothing'"),
        ({"dataset": torch.randn(40, 2, 8, 8)}, "Sequential cannot take images of 2x8x8"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_compared_is_said(options, message):
    with pytest.raises(AdvfoolError, match=message):
        compare(own_network(), own_network(seed=1), **options)


def test_networks_for_controls_are_measured_and_those_that_do_not_fit_refused():
    first = own_network()
    nulls = {"honest_finetune": changed(first, 0.1), "independent": changed(first).train()}
    metrics = compare(first, changed(first), nulls=nulls).metrics
    assert {"honest_finetune", "independent", "sharpened_16", "untrained"} <= set(metrics["nulls"]["gradcam"])
    assert nulls["independent"].training
    same = compare(first, changed(first), nulls={"honest_finetune": first}).metrics
    assert same["nulls"]["gradcam"]["honest_finetune"]["fsr"] == same["fsr_before"]["gradcam"]
    assert "independent" not in same["nulls"]["gradcam"]
    wide = copy.deepcopy(first)
    wide[-1] = torch.nn.Linear(wide[-1].in_features, 1 + wide[-1].out_features)
    for network, message in ((wide, r"nulls.independent: .*outputs"), (torch.nn.Flatten(), "nulls.independent: ")):
        with pytest.raises(AdvfoolError, match=message):
            compare(first, first, nulls={"independent": network})
    with pytest.raises(AdvfoolError, match="expected networks for honest_finetune or independent"):
        compare(first, first, nulls={"untrained": first})
