"""An audit of small networks: what is refused, what is degenerate or unfaithful, and what is broken."""

import copy
import json
from dataclasses import dataclass

import pytest
import torch

import advfool
from advfool.auditing import protocol
from advfool.auditing.attack import Attempt
from advfool.auditing.checking import problems
from advfool.auditing.page import page, ranking, sentence
from advfool.auditing.record import RECORD
from advfool.auditing.suite import FOOLINGS, TAIL, AuditSettings, Trial
from advfool.foolings import Location
from advfool.interpreters import Captum, GradCAM
from advfool.library.audit import PAGE, fooling_of
from advfool.training.multiplier import within
from advfool.utilities.errors import AdvfoolError
from tests.helpers.setups import make_setup


@dataclass(frozen=True)
class Constant(GradCAM):
    """A picture that does not depend on the network."""

    def read(self, recording, targets):
        maps = super().read(recording, targets)
        return torch.linspace(0, 1, maps[0].numel()).view(maps[0].shape).expand_as(maps)


@dataclass(frozen=True)
class Flat(GradCAM):
    """Says nothing."""

    def read(self, recording, targets):
        return torch.ones_like(super().read(recording, targets))


@pytest.fixture(scope="module")
def audited(textures):
    network, data = textures
    interps = [GradCAM("4", name="gradcam"), Constant("4", name="constant"), Flat("4", name="flat")]
    options = {"top1": 0.1, "trials": 2, "steps": 40, "batch_size": 16, "accelerator": "cpu", "progress": False}
    return advfool.audit_interpreters(network, data, interps, **options)


def test_maps_that_say_nothing_are_named_before_any_attack(audited):
    found = audited.record["interpreters"]
    assert found["flat"]["verdict"] == "degenerate"
    assert found["constant"]["verdict"] == "unfaithful"
    assert not found["flat"]["trials"]
    assert not found["constant"]["trials"]
    assert "explains nothing" in audited.verdicts()["constant"]


def test_what_was_tried_is_told(audited):
    found = audited.record["interpreters"]["gradcam"]
    assert found["honesty"]["faithful"] > 0.5
    assert found["honesty"]["zero_gradient"] < 0.5
    assert 1 <= len(found["trials"]) <= 2
    assert [trial["attack"] for trial in found["trials"]] == ["location", "topk"][: len(found["trials"])]
    assert all(trial["visits"] and trial["visits"][-1]["step"] <= 40 for trial in found["trials"])
    if found["attack"]:
        assert found["ci95"][0] <= found["deceptive_rate"] <= found["ci95"][1]
        assert found["curve"]
        assert set(found["transfer"]) == {"constant", "flat"}
    else:
        assert found["verdict"] == "not broken by AM-1"


def test_an_audit_repeats_itself(textures, audited):
    network, data = textures
    options = {"top1": 0.1, "trials": 2, "steps": 40, "batch_size": 16, "accelerator": "cpu", "progress": False}
    again = advfool.audit_interpreters(network, data, [GradCAM("4", name="gradcam")], **options)

    def timeless(record):
        found = json.loads(json.dumps(record["interpreters"]["gradcam"]))
        found.pop("transfer", None)  # to the other interpreters, which this audit does not have
        return {key: value for key, value in found.items() if key not in ("seconds", "trials")}, [
            {key: value for key, value in trial.items() if key != "seconds"} for trial in found["trials"]
        ]

    assert timeless(again.record) == timeless(audited.record)


def test_the_folder_holds_the_record_and_a_page_that_loads_nothing(audited, tmp_path):
    folder = audited.save(tmp_path / "audit")
    record = json.loads((folder / RECORD).read_text())
    assert problems(folder) == []  # what is written fits the schema, and agrees with itself
    assert record["threat_model"].startswith("The attacker has the network")
    assert record["repeat"].startswith("advfool.audit_interpreters(model, dataset, interpreters=[GradCAM(")
    assert (record["settings"]["target"], record["settings"]["faithfulness.replacement"]) == ("label", "blur")
    assert (record["model"], record["data"]) == ("Sequential", "tensors")
    assert set(record["environment"]) == {"commit", "versions", "python", "platform", "threads"}
    assert "@inproceedings{heo2019fooling" in (folder / "card.md").read_text()
    assert record["suite"] == "AM-1"
    assert record["budget"]["top1"] == 0.1
    text = (folder / PAGE).read_text()
    assert "Can these heatmaps be made to lie?" in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("data:image/png;base64,") == 3


def test_strangers_names_are_escaped(audited):
    record = json.loads(json.dumps(audited.record))
    record["model"] = "<script>alert(1)</script>"
    record["interpreters"] = {"<img src=x onerror=alert(1)>": record["interpreters"]["flat"]}
    text = page(record, {})
    assert "<script" not in text
    assert "<img src=x" not in text


def test_the_ranking_puts_the_most_easily_fooled_first():
    broken = {"verdict": "broken by location", "deceptive_rate": 0.9, "top1_drop": 0.004}
    safe = {"verdict": "not broken by AM-1", "deceptive_rate": 0.2, "top1_drop": 0.0, "accuracy": "kept"}
    void = {"verdict": "unfaithful", "deceptive_rate": 0.0, "honesty": {"faithful": 0.1}}
    ranked = ranking({"interpreters": {"void": void, "safe": safe, "broken": broken}})
    assert [name for name, _ in ranked] == ["broken", "safe", "void"]
    assert "can be made to lie: 90.0 %" in sentence("broken", broken)
    assert "does not make it safe" in sentence("safe", safe)


def test_a_budget_that_cannot_be_read_off_the_selection_images_is_refused(textures):
    network, data = textures
    with pytest.raises(AdvfoolError, match=r"two of 40 selection images are 5\.00%"):
        advfool.audit_interpreters(network, data, ["gradcam"], top1=0.01, accelerator="cpu", progress=False)


def test_training_images_judge_where_the_selection_is_too_small_for_the_budget(textures):
    network, data = textures
    report = advfool.audit_interpreters(
        network, data, [Flat("4", name="flat")], top1=0.02, accelerator="cpu", progress=False
    )
    assert report.record["images"] == {"train": 192, "selection": 128, "test": 80}
    assert report.record["moved_to_selection"] == 88
    assert report.record["settings"]["accelerator"] == "cpu"


def test_a_price_on_the_budget_is_within_it():
    assert within(0.97 - 0.96, 0.01)
    assert within(1 - 0.97, 0.03)
    assert not within(0.0101, 0.01)


def test_another_librarys_interpreter_has_no_gradient_to_attack(textures):
    network, data = textures
    saliency = Captum("Saliency", name="saliency")
    report = advfool.audit_interpreters(network, data, [saliency], top1=0.1, accelerator="cpu", progress=False)
    assert report.record["interpreters"]["saliency"]["verdict"] in ("no gradient", "unfaithful")


def test_frozen_networks_are_attacked_all_the_same(textures):
    network, data = textures
    frozen = copy.deepcopy(network).requires_grad_(False)
    options = {"top1": 0.1, "trials": 1, "steps": 4, "accelerator": "cpu", "progress": False}
    report = advfool.audit_interpreters(frozen, data, [GradCAM("4", name="gradcam")], **options)
    assert len(report.record["interpreters"]["gradcam"]["trials"]) == 1
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_every_attack_is_tried_in_the_first_way_that_serves_it_and_then_in_the_next():
    planned = AuditSettings(trials=20).planned(10000, 10**5, "fc")
    free, kept, moved = (1.0, 0.0, "fc"), (8.0, 1.0, None), (8.0, 0.0, None)
    alike, apart = ["location", "topk", "center_mass", "target"], ["another_class", "active"]
    turns = [(alike, free), (apart, kept), (alike, kept), (apart, moved), (alike, moved)]
    expected = [(name, *way) for names, way in turns for name in names]
    assert [(trial.attack, trial.slack, trial.offset, trial.free_layer) for trial in planned] == expected
    assert AuditSettings().planned(10000, 10**5, "fc") == planned[:6]


def test_attacks_that_mean_nothing_are_left_out_and_others_take_their_turns():
    planned = AuditSettings().planned(10000, 10**5, "fc", ["active"])
    names = ["location", "topk", "center_mass", "target", "another_class", "location"]
    assert [trial.attack for trial in planned] == names


def test_without_a_free_layer_the_other_ways_are_tried():
    planned = AuditSettings(trials=12).planned(10000, 10**5)
    expected = [(name, 8.0, offset) for offset in (1.0, 0.0) for name in FOOLINGS]
    assert [(trial.attack, trial.slack, trial.offset) for trial in planned] == expected
    assert not any(trial.free_layer for trial in planned)


def test_a_large_network_is_tried_half_as_often():
    counts = [len(AuditSettings(trials=trials).planned(300, 300_001)) for trials in (1, 2, 6, 7)]
    assert counts == [1, 1, 3, 4]


def test_of_a_network_much_larger_than_its_images_the_last_parameters_are_trained():
    parts = [{trial.part for trial in AuditSettings().planned(300, count)} for count in (300_000, 300_001)]
    assert parts == [{1.0}, {TAIL}]


def test_few_training_images_are_trained_on_for_fewer_steps():
    steps = [AuditSettings().planned(images, 0)[0].steps for images in (1, 320, 100000)]
    assert steps == [32, 320, 600]


def test_maps_of_another_scale_are_audited_without_location(textures):
    network, data = textures
    interps = [GradCAM("4", name="gradcam", normalise="sum")]
    options = {"top1": 0.1, "trials": 1, "steps": 4, "batch_size": 16, "accelerator": "cpu", "progress": False}
    found = advfool.audit_interpreters(network, data, interps, **options).record["interpreters"]["gradcam"]
    assert list(found["left_out"]) == ["location"]
    assert [trial["attack"] for trial in found["trials"]] == ["topk"]


def test_in_the_curve_the_best_attack_within_the_budget_stands_for_the_others(textures, monkeypatch):
    def told(attack, rate):
        selection = {"deceptive_rate": rate, "fsr": 1.0, "top1_drop": 0.0, "agreement": 1.0}
        states = dict.fromkeys((0.01, 0.02), network.state_dict())
        return Attempt(Trial(attack, 1.0, 2), network, selection, [], states, "", 0.0)

    network, _ = textures
    monkeypatch.setattr(protocol, "judged", lambda *_: pytest.fail("judged again"))
    setup = make_setup(network, GradCAM("4", name="gradcam"), Location(name="location"))
    attempts = [told("location", 0.5), told("topk", 0.9), told("target", 0.7)]
    foolings = {name: fooling_of(name) for name in ("location", "topk", "target")}
    own, _ = protocol._best_for(setup, 0.02, attempts, foolings, AuditSettings(top1=0.01), {})
    assert own.fooling.name == "topk"
