"""Would anyone notice? The population, its groups, and what the record and the page say of them."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from advfool.auditing import notice, population
from advfool.auditing.attack import Attempt, with_weights
from advfool.auditing.card import card
from advfool.auditing.detectors import DETECTORS
from advfool.auditing.members import kept_members
from advfool.auditing.notice import judged_by, would_anyone_notice
from advfool.auditing.noticed import noticed
from advfool.auditing.page import page
from advfool.auditing.population import Fooled, Honest, fooled_recipes, honest_recipes, reordered, winning_trial
from advfool.auditing.protocol import Audit
from advfool.auditing.record import as_record
from advfool.auditing.suite import AuditSettings, Trial
from advfool.evaluation.noise import parameter_noise
from advfool.evaluation.setup import FaithfulnessSettings
from advfool.foolings import Location
from advfool.interpreters import GradCAM, SimpleGrad
from advfool.library import audit as library
from advfool.training.noisy import ParameterNoise
from tests.helpers.audits import record
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup

SETTINGS = AuditSettings(top1=0.5, steps=2, batch_size=8, selection_images=8)
TRIAL = Trial("location", 1.0, 2)
PAID = {"top1_drop": 0.0, "agreement": 1.0}


class Sealed(RandomData):
    """Its test images must not be looked at."""

    def test(self):
        raise AssertionError("test images were looked at")


def disturbed(network, level, seed):
    with parameter_noise(network, level, seed):
        return with_weights(network, {name: value.clone() for name, value in network.state_dict().items()})


@pytest.fixture(scope="module")
def audit():
    """What an audit has left that broke one of two interpreters."""
    original, layer = build_tiny("resnet_tiny", torch.float32)
    interps = [GradCAM(layer, name="gradcam"), SimpleGrad(name="simplegrad")]
    faithful = FaithfulnessSettings(images=8, random_orders=2, steps=2)
    setup = make_setup(original, interps, Location(), Sealed(), faithfulness=faithful)
    told = asdict(TRIAL) | {"selection": PAID | {"deceptive_rate": 0.9}}
    found = {"gradcam": {"verdict": "broken by location", "attack": "location", "trials": [told]}}
    found |= {"simplegrad": {"verdict": "not broken by AM-1", "attack": None, "trials": []}}
    return Audit({"interpreters": found}, setup, {"gradcam": disturbed(original, 0.5, 99)})


@pytest.fixture
def few(monkeypatch):
    return make_few(monkeypatch)


def make_few(monkeypatch):
    """A small population, with attacks that take no time; returns what they are told."""
    calls = []

    def attempt(setup, trial, settings, progress, extra=()):
        calls.append((setup, trial, list(extra)))
        failed = setup.data.seed == 1 and not extra
        network = None if failed else disturbed(setup.original, 0.5, setup.data.seed)
        selection = {} if failed else {"deceptive_rate": 0.9}
        return Attempt(trial, network, selection, [], {}, "stopped", 0.0)

    monkeypatch.setattr(population, "attempt", attempt)
    monkeypatch.setattr(population, "FEWEST", 3)
    monkeypatch.setattr(population, "RATES", (0.001,))
    monkeypatch.setattr(population, "SEEDS", 1)
    return calls


@pytest.fixture(scope="module")
def measured(audit):
    """What is found with a small population, and what the attacks were told."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        calls = make_few(monkeypatch)
        return would_anyone_notice(audit, SETTINGS, {"location": Location()}), calls


def test_honest_and_fooled_networks_are_told_apart_by_what_differs(measured):
    found, _ = measured
    groups = [member["group"] for member in found["population"] if member["scores"]]
    assert (groups.count("honest"), groups.count("fooled"), groups.count("aware")) == (2, 3, 3)
    assert set(found["detectors"]) == {each.name for each in DETECTORS}
    distance = found["detectors"]["weight_distance"]
    assert distance["auc"] == 1
    assert distance["knowledge"] == "network and original"
    assert distance["p"] == pytest.approx(0.2)  # of 10 ways to draw the groups, 2 are as far apart
    assert len(distance["honest_scores"]) == distance["honest"] == 2
    assert distance["aware"]["of"] == "parameter_noise"
    assert distance["aware"]["fooled"] == 3


def test_a_repetition_that_fails_is_told_and_replaced(measured):
    found, _ = measured
    failed = [member for member in found["population"] if member["scores"] is None]
    assert [(member["group"], member["seed"]) for member in failed] == [("fooled", 1)]
    assert {member["seed"] for member in found["population"] if member["group"] == "fooled"} == {0, 1, 2, 9}


def test_only_the_attacker_who_knows_trains_with_noise(audit, measured):
    _, calls = measured
    assert all(setup.original is audit.setup.original and trial == TRIAL for setup, trial, _ in calls)
    assert all([each.name for each in setup.interpreters.values()] == ["gradcam"] for setup, _, _ in calls)
    kinds = [[type(callback) for callback in extra] for _, _, extra in calls]
    assert kinds == [[], [], [ParameterNoise], [ParameterNoise], [ParameterNoise], []]


def test_the_population_that_is_measured_fits_the_schema(measured):
    found, _ = measured
    written = json.loads(json.dumps(found, allow_nan=False))
    assert len(as_record(record(**written), "audit.json").population) == len(found["population"])


def test_an_interrupted_population_goes_on_and_is_the_same(audit, measured, few, tmp_path):
    def timeless(found):
        return json.loads(
            json.dumps([{k: v for k, v in each.items() if k != "seconds"} for each in found["population"]])
        )

    foolings = {"location": Location()}
    whole, _ = measured
    known, found = kept_members(tmp_path, "key")

    def interrupted(label, member):
        if "aware" in label:
            raise KeyboardInterrupt
        found(label, member)

    with pytest.raises(KeyboardInterrupt):
        would_anyone_notice(audit, SETTINGS, foolings, False, known, interrupted)
    few.clear()
    again = would_anyone_notice(audit, SETTINGS, foolings, False, known, found)
    assert timeless(again) == timeless(whole)
    assert again["detectors"] == whole["detectors"]
    assert len(few) == 3 + 1  # the aware ones, and what replaces the one that failed
    assert kept_members(tmp_path, "another key")[0]("honest, distillation, rate 0.001, seed 1") is None


def test_an_audit_measures_detectors_where_asked_and_keeps_each_network_until_it_is_finished(
    audit, few, tmp_path, monkeypatch
):
    setup = replace(audit.setup, data=RandomData())
    monkeypatch.setattr(library, "run_audit", lambda own, *rest: replace(audit, record=dict(audit.record), setup=own))
    plain = library.audit_setup(setup, SETTINGS, "pictures", "again", tmp_path, progress=False)
    assert not {"detectors", "population"} & set(plain.record)
    assert not few
    found = library.audit_setup(setup, SETTINGS, "pictures", "again", tmp_path, progress=False, detectors=True)
    assert set(found.record["detectors"]) == {each.name for each in DETECTORS}
    assert len(list((tmp_path / "parts").glob("*seed*.json"))) == len(found.record["population"]) == 9
    few.clear()
    again = library.audit_setup(setup, SETTINGS, "pictures", "again", tmp_path, progress=False, detectors=True)
    assert again.record == found.record
    assert not few


def test_where_nothing_was_broken_there_is_nothing_to_notice(audit):
    records = {name: each | {"verdict": "not broken by AM-1"} for name, each in audit.record["interpreters"].items()}
    found = would_anyone_notice(replace(audit, record={"interpreters": records}), SETTINGS, {"location": Location()})
    assert found == {"detectors": {}, "population": []}
    assert "nothing to notice" in noticed(found)


def test_an_honest_fine_tune_changes_the_weights_by_its_seed_and_repeats_itself(audit):
    def weights(recipe):
        return recipe.make(audit.setup, SETTINGS, {}, False).network.state_dict()

    first, again, other = (weights(Honest("cross_entropy", 0.01, seed)) for seed in (1, 1, 2))
    original = audit.setup.original.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())
    assert any(not torch.equal(value, original[name]) for name, value in first.items())


def test_a_fooled_network_is_the_attack_repeated_with_noise_where_the_attacker_knows(audit):
    for aware in (False, True):
        made = Fooled("gradcam", TRIAL, 1, aware).make(audit.setup, SETTINGS, {"location": Location()}, False)
        assert "outcome" in made.told
        assert "failed" not in made.told["outcome"]


def test_the_population_is_large_enough_for_any_number_of_broken_interpreters():
    assert len(honest_recipes(0)) >= population.FEWEST == 8
    assert len({recipe.label for recipe in honest_recipes(0)}) == len(honest_recipes(0))
    for number in (1, 2, 3, 5, 8, 11):
        winners = {f"interp {place}": TRIAL for place in range(number)}
        assert len(fooled_recipes(winners, 0, aware=False)) + number >= 8
        assert len(fooled_recipes(winners, 0, aware=True)) >= 8


def test_another_seed_changes_the_order_of_the_training_images_alone(audit):
    other = reordered(audit.setup, 7)
    assert audit.setup.data.seed == 0
    assert other.settings == audit.setup.settings
    assert other.data.train() is audit.setup.data.train()
    first, second = (next(iter(setup.data.train_dataloader())).index for setup in (audit.setup, other))
    assert first.tolist() != second.tolist()


def test_the_winning_trial_is_the_chosen_one():
    def told(attack, slack, rate, drop=0.0):
        selection = PAID | {"deceptive_rate": rate, "top1_drop": drop}
        return {"attack": attack, "slack": slack, "steps": 600, "selection": selection, "outcome": ""}

    trials = [
        told("location", 1.0, 0.5),
        told("location", 4.0, 0.8),
        told("topk", 1.0, 0.9),
        told("location", 2.0, 1.0, 0.02),
    ]
    trials.append({"attack": "location", "slack": 2.0, "steps": 600, "selection": None})
    assert winning_trial({"attack": "location", "trials": trials}, AuditSettings()) == Trial("location", 4.0, 600)


def members(name, honest, fooled):
    groups = {"honest": honest, "fooled": fooled}
    return [{"group": group, "scores": {name: score}} for group, scores in groups.items() for score in scores]


def test_a_sentence_says_which_detectors_separate_and_which_do_not(monkeypatch):
    monkeypatch.setattr(
        notice, "DETECTORS", [each for each in DETECTORS if each.name in ("parameter_noise", "weight_distance")]
    )
    good, bad = members("weight_distance", range(8), range(8, 16)), members("parameter_noise", range(8), range(8))
    both = [{"group": a["group"], "scores": a["scores"] | b["scores"]} for a, b in zip(good, bad, strict=True)]
    text = noticed({"detectors": judged_by(both)})
    assert text.startswith("Yes, with the right detector: weight_distance (AUC 1.00, p = 0.00016) tells 8 fooled")
    assert text.endswith("Not so parameter_noise (AUC 0.50, p = 1).")
    useless = [{"group": each["group"], "scores": each["scores"] | {"weight_distance": None}} for each in both]
    assert noticed({"detectors": judged_by(useless)}).startswith("No: none of 1 detectors tells 8 fooled")


def test_a_score_that_points_the_wrong_way_does_not_separate(monkeypatch):
    monkeypatch.setattr(notice, "DETECTORS", DETECTORS[:1])
    found = judged_by(members(DETECTORS[0].name, range(8, 16), range(8)))
    assert found[DETECTORS[0].name]["auc"] == 0
    assert noticed({"detectors": found}).startswith("No: none of 1")


def whole_record(**changes):
    judged = judged_by(
        [*members(DETECTORS[0].name, [0.1, 0.2], [0.3, 0.4]), {"group": "aware", "scores": {DETECTORS[0].name: 0.1}}]
    )
    return record(
        **({"detectors": judged, "population": [{"label": "honest", "group": "honest", "scores": None}]} | changes)
    )


def test_page_card_and_schema_hold_the_detectors(monkeypatch):
    monkeypatch.setattr(notice, "DETECTORS", DETECTORS[:1])
    found = whole_record()
    read = as_record(found, "audit.json")
    assert read.detectors["map_faithfulness"].auc == 1
    assert read.detectors["map_faithfulness"].aware.fooled == 1
    assert read.population[0].group == "honest"
    text = page(found, {})
    assert "Would anyone notice?" in text
    assert "maps that do not beat random orders" in text
    assert "2: 0.3 to 0.4" in text
    assert "Would anyone notice? No: none of 1 detectors" in card(found)
    assert "Would anyone notice?" not in page(record(), {}) + card(record())


def test_a_strangers_detectors_are_escaped_and_may_hold_less():
    found = whole_record(detectors={"<script>": {"auc": 0.9, "knowledge": "<b>all</b>"}})
    as_record(found, "audit.json")
    text = page(found, {})
    assert "<script>" not in text
    assert "<b>" not in text
    assert "nothing to notice" in page(whole_record(detectors={}), {})
