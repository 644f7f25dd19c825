"""The winning attack with other seeds: what is repeated, and the interval of the mean."""

import pytest
import torch
from scipy import stats

from advfool.auditing import seeds
from advfool.auditing.page import page
from advfool.auditing.protocol import Audit
from advfool.auditing.record import as_record
from advfool.auditing.record_further import Repeated
from advfool.auditing.suite import AuditSettings
from advfool.foolings import Location
from advfool.interpreters import SimpleGrad
from tests.helpers.audits import broken, record
from tests.helpers.data import RandomData
from tests.helpers.networks import build_tiny
from tests.helpers.setups import make_setup

RATES = {1: 0.8, 2: None, 3: 0.7}  # by seed; None: nothing is fooled within the budget


class Attempt:
    def __init__(self, network):
        self.network = network


@pytest.fixture
def audit():
    network, layer = build_tiny("vgg_tiny", torch.float32)
    interpreter = SimpleGrad(layer, name="simplegrad")
    setup = make_setup(network, [interpreter, SimpleGrad(name="other")], Location(name="location"), RandomData())
    trial = {"attack": "location", "slack": 1.0, "steps": 5}
    trial["selection"] = {"deceptive_rate": 0.9, "fsr": 1.0, "top1_drop": 0.0, "agreement": 1.0}
    found = {"verdict": "broken by location", "attack": "location", "deceptive_rate": 0.9, "fsr": 1.0}
    record = {"interpreters": {"simplegrad": found | {"top1_drop": 0.0, "trials": [trial]}, "other": {"verdict": "no"}}}
    return Audit(record, setup)


@pytest.fixture
def attacks(monkeypatch):
    """Attacks that reach what stands in RATES, and a list of what was attacked."""
    made = []

    def attempt(setup, trial, settings, progress):
        made.append((setup.data.seed, list(setup.interpreters), setup.fooling.name, trial.steps))
        return Attempt(None if RATES[setup.data.seed] is None else setup.data.seed)

    def measured(setup, network, *_):
        return {"deceptive_rate": RATES[network], "fsr": 1.0, "top1_drop": 0.01, "ci95": None}

    monkeypatch.setattr(seeds, "attempt", attempt)
    monkeypatch.setattr(seeds, "measure_on_test", measured)
    return made


def test_every_seed_counts_also_one_that_fools_nothing(audit, attacks):
    seeds.repeat_with_seeds(audit, AuditSettings(), {"location": Location(name="location")}, 4)
    assert attacks == [(seed, ["simplegrad"], "location", 5) for seed in RATES]
    found = audit.record["interpreters"]["simplegrad"]["seeds"]
    assert found["deceptive_rate"] == [0.9, 0.8, 0.0, 0.7]
    assert found["top1_drop"] == [0.0, 0.01, 0.0, 0.01]
    expected = stats.ttest_1samp(found["deceptive_rate"], 0).confidence_interval(0.95)
    assert found["ci95"] == pytest.approx([max(0, expected.low), min(1, expected.high)])
    assert "seeds" not in audit.record["interpreters"]["other"]
    Repeated.model_validate(found)


def test_two_seeds_have_no_interval_and_one_is_no_repetition(audit, attacks):
    suite = {"location": Location(name="location")}
    seeds.repeat_with_seeds(audit, AuditSettings(), suite, 1)
    assert "seeds" not in audit.record["interpreters"]["simplegrad"]
    seeds.repeat_with_seeds(audit, AuditSettings(), suite, 2)
    assert audit.record["interpreters"]["simplegrad"]["seeds"]["ci95"] is None


def test_the_page_shows_each_seed_and_the_interval_and_what_steps_leave():
    repeated = {"deceptive_rate": [0.9, 0.8, 0.7], "fsr": [1.0] * 3, "top1_drop": [0.0, 0.01, 0.0], "ci95": [0.55, 1.0]}
    left = {"deceptive_rate": 0.123, "ci95": [0.1, 0.2], "fsr": 0.5, "top1_drop": 0.02}
    content = record({"gradcam": broken(seeds=repeated)}, defences={"gradcam": {"finetune": left}})
    as_record(content, "made up")
    shown = page(content, {})
    assert "90.0 %, 80.0 %, 70.0 %" in shown
    assert "55.0 to 100.0 %" in shown
    assert "12.3 %" in shown
    assert "With other seeds" not in page(record({"gradcam": broken()}), {})
