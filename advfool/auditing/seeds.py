"""Repeats the winning attacks with other seeds: whether a verdict hangs on one order of the training images."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from advfool.auditing.attack import attacked_by, attempt
from advfool.auditing.population import reordered, winning_trial
from advfool.auditing.protocol import Audit, measure_on_test
from advfool.auditing.suite import AuditSettings
from advfool.evaluation.setup import NullSettings
from advfool.foolings.base import Fooling

log = logging.getLogger(__name__)
FEWEST = 3  # seeds that an interval is given for


def repeat_with_seeds(
    audit: Audit, settings: AuditSettings, foolings: Mapping[str, Fooling], seeds: int, progress: bool = False
) -> None:
    """Put into the record of each broken interpreter what the winning attack reaches with other seeds.

    Splits, budget and measurements stay the same. The attack is the one that the audit chose; nothing is chosen anew,
    and every repetition counts: one that fools nothing within the budget has a deceptive rate of 0.

    Args:
        audit: a finished audit, whose record gets the key `seeds` of each interpreter.
        settings: of the audit.
        foolings: those of the suite, by name.
        seeds: number of seeds, the audit's own included; 1: nothing is repeated.
        progress: whether progress bars are shown.
    """
    for name, record in audit.record["interpreters"].items():
        if seeds < 2 or not record["verdict"].startswith("broken"):
            continue
        trial = winning_trial(record, settings)
        found = [{key: record[key] for key in ("deceptive_rate", "fsr", "top1_drop")}]
        for seed in range(settings.seed + 1, settings.seed + seeds):
            log.info("%s: seed %d", name, seed)
            own = replace(
                attacked_by(reordered(audit.setup, seed), foolings[trial.attack]),
                interpreters={name: audit.setup.interpreters[name]},
                settings=replace(audit.setup.settings, nulls=NullSettings(())),
            )
            network = attempt(own, trial, settings, progress).network
            if network is None:
                found.append({"deceptive_rate": 0.0, "fsr": 0.0, "top1_drop": 0.0})
                continue
            measured = measure_on_test(replace(own, data=audit.setup.data), network, settings, {})
            found.append({key: measured[key] for key in found[0]})
        record["seeds"] = _summary(found)


def _summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """List the numbers of each seed, the audit's own first; with the t interval of the mean of three or more."""
    columns = {key: [each[key] for each in found] for key in found[0]}
    return columns | {"ci95": _interval(columns["deceptive_rate"]) if len(found) >= FEWEST else None}


def _interval(rates: list[float]) -> list[float]:
    """Compute the 95 % t interval of the mean of a few rates, within 0 and 1."""
    mean, error = float(np.mean(rates)), float(stats.sem(rates))
    margin = error * float(stats.t.ppf(0.975, len(rates) - 1))
    return [max(0.0, mean - margin), min(1.0, mean + margin)]
