"""Would anyone notice? Judges detectors by a population of honest and of fooled networks."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import pytorch_lightning as pl

from advfool.auditing.detectors import DETECTORS, Auditor, NoiseSensitivity, accuracy
from advfool.auditing.population import (
    FEWEST,
    Fooled,
    Honest,
    Made,
    fooled_recipes,
    honest_recipes,
    winning_trial,
)
from advfool.auditing.protocol import Audit
from advfool.auditing.separation import separation
from advfool.auditing.suite import AuditSettings
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.setup import Setup
from advfool.foolings.base import Fooling

log = logging.getLogger(__name__)
Member = Mapping[str, Any]  # a network of the population, as audit.json describes it
Recipe = Honest | Fooled


def would_anyone_notice(
    audit: Audit,
    settings: AuditSettings,
    foolings: Mapping[str, Fooling],
    progress: bool = False,
    known: Callable[[str], Member | None] | None = None,
    found: Callable[[str, Member], None] | None = None,
) -> dict[str, Any]:
    """Train the population, score every network with every detector, and compare the groups.

    Training images alone are trained on, and selection images alone are looked at.

    Args:
        audit: a finished audit.
        settings: of the audit.
        foolings: those of the suite, by name.
        progress: whether progress bars are shown.
        known: what an earlier, interrupted audit found of a network, by its label; None: nothing.
        found: called with what was found of each network.

    Returns:
        `detectors`, by name, and `population`, which lists all networks; both are empty where no interpreter was
        broken, because then there is nothing to notice.
    """
    records = audit.record["interpreters"]
    winners = {
        name: winning_trial(each, settings) for name, each in records.items() if each["verdict"].startswith("broken")
    }
    if not winners:
        log.info("detectors: no interpreter was broken, so there is nothing to notice")
        return {"detectors": {}, "population": []}
    sound = [name for name, each in records.items() if each["verdict"] not in ("degenerate", "unfaithful")]
    watched = {name: audit.setup.interpreters[name] for name in sound}
    auditor = Auditor(replace(audit.setup, interpreters=watched), settings.selection_images)
    attacked = replace(audit.setup, interpreters={name: audit.setup.interpreters[name] for name in winners})
    population: list[Member] = []
    planned: list[Recipe] = [
        *honest_recipes(settings.seed),
        *(Fooled(name, trial, settings.seed) for name, trial in winners.items()),
        *fooled_recipes(winners, settings.seed, aware=False),
        *fooled_recipes(winners, settings.seed, aware=True),
    ]
    for number, recipe in enumerate(planned, 1):  # it grows where a repetition fails
        log.info("detectors: network %d of %d (%s)", number, len(planned), recipe.label)
        member = known(recipe.label) if known else None
        if member is None:
            made = _made(recipe, audit, attacked, settings, foolings, progress)
            member = _scored(recipe, made, auditor, settings.accelerator)
            if found:
                found(recipe.label, member)
        population.append(member)
        if member["scores"] is None and recipe.group == "fooled" and recipe.seed < settings.seed + FEWEST:
            planned.append(replace(recipe, seed=recipe.seed + FEWEST))
    return {"detectors": judged_by(population), "population": population}


def judged_by(population: Sequence[Member]) -> dict[str, Any]:
    """Compare the groups by the score of each detector; a detector without scores is left out.

    Args:
        population: what `would_anyone_notice` lists.

    Returns:
        by the detector's name: `auc` with its `p`, the `knowledge` that it takes, the numbers of `honest` and `fooled`
        networks with their scores, and `aware`: the same against an attacker who trains with noise on the parameters.
    """
    judged = {}
    for detector in DETECTORS:
        honest, fooled, aware = (_scores(population, group, detector.name) for group in ("honest", "fooled", "aware"))
        apart = separation(honest, fooled)
        if apart is None:
            continue
        judged[detector.name] = {
            **apart._asdict(),
            "knowledge": detector.knows,
            "looks_at": detector.looks_at,
            "honest": len(honest),
            "fooled": len(fooled),
            "honest_scores": honest,
            "fooled_scores": fooled,
            "aware": None,
        }
        if apart := separation(honest, aware):
            about = {"of": NoiseSensitivity.name, "fooled": len(aware), "fooled_scores": aware}
            judged[detector.name]["aware"] = apart._asdict() | about
    return judged


def _made(
    recipe: Recipe,
    audit: Audit,
    attacked: Setup,
    settings: AuditSettings,
    foolings: Mapping[str, Fooling],
    progress: bool,
) -> Made:
    """Train a network, unless it is one that the audit has left."""
    if isinstance(recipe, Fooled) and not recipe.aware and recipe.seed == settings.seed:
        return Made(audit.networks[recipe.interp])
    return recipe.make(attacked, settings, foolings, progress)


def _scored(recipe: Recipe, made: Made, auditor: Auditor, accelerator: str) -> Member:
    """Score a network with every detector; nothing of one that is not what it should be."""
    started = time.perf_counter()
    member = {"label": recipe.label, "group": recipe.group, **asdict(recipe), **made.told}
    if made.network is None:
        return member | {"top1": None, "scores": None}
    pl.seed_everything(auditor.setup.settings.seed, workers=True, verbose=False)
    network = made.network.to(measuring_trainer(accelerator, False).strategy.root_device)
    scores = {each.name: each.score(network, auditor) for each in DETECTORS}
    top1 = accuracy(network, auditor.batches_for(network))
    network.cpu()
    return member | {
        "top1": top1,
        "scores": {name: value if isfinite(value) else None for name, value in scores.items()},
        "seconds": round(time.perf_counter() - started, 1),
    }


def _scores(population: Sequence[Member], group: str, detector: str) -> list[float]:
    """List a detector's scores of a group."""
    scored = [each["scores"].get(detector) for each in population if each["group"] == group and each["scores"]]
    return [value for value in scored if value is not None]
