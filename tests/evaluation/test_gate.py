"""The gate of active fooling, against a loop over composites; and the choice of pairs on training images."""

import json
import logging

import pytest
import torch
from torch import nn

from advfool.data.composites import Composites, composite_splits
from advfool.data.samples import take
from advfool.evaluation.assembly import assemble
from advfool.evaluation.gate import gate_of, own_tiles
from advfool.evaluation.pairs import measure_pairs, record_of
from advfool.evaluation.setup import NullSettings, Settings
from advfool.foolings import Active
from advfool.interpreters import GradCAM, SimpleGrad
from advfool.utilities.errors import AdvfoolError
from tests.helpers.command import run_here
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.sealed import sealed_test_images
from tests.helpers.setups import make_setup


class Brightest(RandomData):
    """Images of class c are bright in channel c % 3, so that a linear network points at them."""

    def __init__(self) -> None:
        super().__init__(counts=(60, 90, 40))
        for part in self.parts.values():
            for image, label in zip(part.batch.image, part.batch.label, strict=True):
                image[label % 3] += 40


class Channels(nn.Module):
    """The score of class c is the mean square of channel c % 3, whose gradient is where the channel is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return (self.scale * images.square().mean(dim=(2, 3))).repeat(1, 4)[:, :10]


class Blind(Channels):
    """The score of class c is the mean of channel c % 3, whose gradient is the same everywhere."""

    def forward(self, images):
        return (self.scale * images.mean(dim=(2, 3))).repeat(1, 4)[:, :10]


def test_own_tiles_are_those_of_a_loop_that_looks_for_the_maximum():
    network, layer = build_tiny("resnet_tiny", torch.float32)
    data, interps = RandomData(), [GradCAM(layer, name="gradcam"), SimpleGrad(name="simplegrad")]
    labels = data.train().labels()
    composites = Composites(data.train(), (0, 1), tuple((labels == c).nonzero()[:, 0] for c in (0, 1)), 9, 3)
    found = own_tiles(network, interps, composites, range(9))
    for interp in interps:
        for index in range(9):
            sample = take(composites, [index])
            for c, label in enumerate(sample.label[0].tolist()):
                heatmap = interp(network, sample.image, label).detach()
                big = nn.functional.interpolate(heatmap[None], (56, 56), mode="bilinear")[0, 0]
                row, col = divmod(big.flatten().argmax().item(), 56)
                boxes = sample.box[0, c].tolist()
                inside = any(top <= row < bottom and left <= col < right for top, left, bottom, right in boxes)
                assert found[interp.name][index, c].item() == (inside and bool(heatmap.min() < heatmap.max())), index


@pytest.mark.parametrize(("pair", "passes"), [((0, 1), True), ((0, 3), False)])
def test_the_gate_is_measured_without_test_images_stored_and_warned_of(pair, passes, caplog):
    data = Brightest()  # 0 and 3 are bright in the same channel: their maps are the same
    interp = SimpleGrad(name="simplegrad")
    with sealed_test_images(), caplog.at_level(logging.INFO):
        setup = make_setup(
            Channels(), interp, Active(*pair, train=4, test=40), data, composite_splits(data, pair, 4, 40)
        )
        gate = gate_of(setup)["gate"]
    share = gate["pointing"]["simplegrad"]
    assert gate["passes"] is passes
    assert (share["both"] == 1) is passes
    assert (gate["composites"], gate["of"], gate["enough"]) == (40, "selection", 0.8)
    assert ("means nothing" in caplog.text) is not passes
    assert "point into their own tiles on" in caplog.text
    if not passes:
        low, high = gate["ci95"]["simplegrad"]
        assert low <= share["both"] <= high < 0.8


def gated(data, network, fooling):
    interp = SimpleGrad(name="simplegrad")
    return assemble(data, network, {"simplegrad": interp}, fooling, Settings(nulls=NullSettings(())))


def test_a_gated_training_has_only_training_composites_whose_maps_point_into_their_own_tiles():
    data, network = RandomData(counts=(60, 90, 40)), Channels()  # whose maps point anywhere
    everything = gated(data, network, Active(0, 1, train=40, test=8)).composites
    chosen = gated(data, network, Active(0, 1, train=40, test=8, gated=True)).composites
    passing = own_tiles(network, [SimpleGrad(name="s")], everything.train, range(40))["s"].all(dim=1).nonzero()[:, 0]
    assert 2 <= len(passing) < 40
    assert len(chosen.train) == len(chosen.train.labels()) == len(chosen.train.groups()) == len(passing)
    for place, index in enumerate(passing.tolist()):
        assert torch.equal(chosen.train[place].image, everything.train[index].image)
        assert torch.equal(chosen.train[place].box, everything.train[index].box)
    for split in ("selection", "test"):  # nothing is chosen among those that are measured on
        assert getattr(chosen, split).digest() == getattr(everything, split).digest()


def test_a_gated_training_without_composites_that_pass_is_refused():
    with pytest.raises(AdvfoolError, match="found 0 of 9.*advfool.pairs"):
        gated(Brightest(), Blind(), Active(0, 1, train=9, test=4, gated=True))
    with pytest.raises(AdvfoolError, match="fooling.fresh=false"):
        Active(0, 1, fresh=True, gated=True)


def test_pairs_that_pass_come_first_and_with_the_composites_that_pass():
    with sealed_test_images():
        pairs = measure_pairs(Channels(), SimpleGrad(name="simplegrad"), Brightest(), [0, 1, 3], count=20)
    assert [pair.classes for pair in pairs if pair.passes] == [(0, 1), (1, 3)]
    assert pairs[0].composites == tuple(range(20))
    assert len(pairs[2].composites) == round(20 * pairs[2].pointing["both"])
    assert record_of(pairs)["best"]["classes"] == (0, 1)
    assert record_of(pairs)["verdict"] == "2 of 3 pairs pass the gate of 80%"


def test_where_no_pair_passes_the_record_says_so():
    pairs = measure_pairs(Channels(), SimpleGrad(name="simplegrad"), Brightest(), [0, 3], count=20)
    assert (record_of(pairs)["best"], record_of(pairs)["verdict"]) == (None, "none of 1 pairs passes the gate of 80%")


def test_so_many_pairs_are_drawn_by_the_seed_and_a_class_without_images_is_refused():
    found = [measure_pairs(Channels(), SimpleGrad(name="s"), Brightest(), None, 4, 2, seed) for seed in (0, 0, 1)]
    first, again, other = ({pair.classes for pair in pairs} for pairs in found)
    assert first == again != other
    assert len(first) == 4
    with pytest.raises(AdvfoolError, match="pairs: expected at least two classes"):
        measure_pairs(Channels(), SimpleGrad(name="s"), Brightest(), [0])


def test_the_command_writes_the_pairs_and_says_how_to_take_the_best(tmp_path):
    output = tmp_path / "pairs.json"
    options = ["model.weights=null", "data.limit_train=200", "composites=4", "classes=[0,1,2]", f"output={output}"]
    done = run_here("advfool.pairs", options)
    assert done.returncode == 0, done.stderr
    record = json.loads(output.read_text())
    assert sorted(pair["classes"] for pair in record["pairs"]) == [[0, 1], [0, 2], [1, 2]]
    assert (record["chosen_on"], record["interp"], record["model"]) == ("training images", "gradcam", "resnet_tiny")
    assert f"{record['verdict']}, for gradcam on resnet_tiny." in done.stdout
