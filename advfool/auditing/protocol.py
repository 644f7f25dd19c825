"""The protocol of AM-1: what is tried on each interpreter, what is chosen, and the verdict."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytorch_lightning as pl
from torch import nn

from advfool.auditing.attack import Attempt, attacked_by, attempt, judged, with_weights
from advfool.auditing.honesty import examine
from advfool.auditing.kept_attempts import KeptAttempts
from advfool.auditing.planning import planned_trials
from advfool.auditing.suite import NAME, AuditSettings, Trial
from advfool.auditing.verdicts import UNRANKED, has_failed, verdict_after
from advfool.evaluation.comparison import compare_networks
from advfool.evaluation.measuring import measuring_trainer
from advfool.evaluation.setup import AccuracySettings, NullSettings, Setup
from advfool.evaluation.summary import summarise
from advfool.foolings.base import Fooling
from advfool.interpreters.base import Interpreter
from advfool.models.weights import weights_digest
from advfool.training.multiplier import Budget

log = logging.getLogger(__name__)
LONGEST = 4000  # characters of an interpreter's settings in the record


@dataclass
class Audited:
    """What an audit found of one interpreter.

    Args:
        record: what audit.json holds of it.
        network: the winning manipulated network; None where no attack was chosen.
    """

    record: dict[str, Any]
    network: nn.Module | None = None


@dataclass(frozen=True)
class Audit:
    """An audit of several interpreters.

    Args:
        record: the contents of audit.json.
        networks: the winning manipulated networks by interpreter.
        setup: what was audited; its interpreters are the audited ones.
    """

    record: dict[str, Any]
    setup: Setup
    networks: dict[str, nn.Module] = field(default_factory=dict)


def run_audit(
    setup: Setup,
    settings: AuditSettings,
    foolings: Mapping[str, Fooling],
    about: Mapping[str, Any],
    progress: bool = False,
    known: Callable[[str], Audited | None] | None = None,
    found: Callable[[str, Audited], None] | None = None,
    kept: KeptAttempts | None = None,
) -> Audit:
    """Audit every interpreter of a setup.

    Args:
        setup: data, network and interpreters; its fooling is not used.
        settings: of the audit.
        foolings: those of the suite, by name.
        about: what `advfool.auditing.about` says of the audit, the first part of its record.
        progress: whether progress bars are shown.
        known: what an earlier, interrupted audit found of an interpreter; None: nothing.
        found: called with what was found of each interpreter.
        kept: the finished attacks of an interrupted audit; None: nowhere.
    """
    audited: dict[str, Audited] = {}
    for number, (name, interpreter) in enumerate(setup.interpreters.items(), 1):
        log.info("%s: interpreter %d of %d", name, number, len(setup.interpreters))
        earlier = known(name) if known else None
        audited[name] = earlier or audit_interpreter(setup, interpreter, settings, foolings, progress, kept)
        if found and not earlier:
            found(name, audited[name])
        log.info("%s: %s", name, audited[name].record["verdict"])
    return Audit(
        dict(about) | {"interpreters": {name: each.record for name, each in audited.items()}},
        setup,
        {name: each.network for name, each in audited.items() if each.network is not None},
    )


def audit_interpreter(
    setup: Setup,
    interpreter: Interpreter,
    settings: AuditSettings,
    foolings: Mapping[str, Fooling],
    progress: bool,
    kept: KeptAttempts | None = None,
) -> Audited:
    """Examine one interpreter, attack it, and measure the chosen attack on the test images."""
    started = time.perf_counter()
    pl.seed_everything(settings.seed, workers=True, verbose=False)  # whatever came before
    honesty = examine(setup, interpreter, settings.selection_images)
    record: dict[str, Any] = {"settings": repr(interpreter)[:LONGEST], "honesty": honesty._asdict(), "trials": []}
    verdict = honesty.verdict()
    if verdict is None:
        others = {name: other for name, other in setup.interpreters.items() if other is not interpreter}
        own = replace(setup, interpreters={interpreter.name: interpreter})
        plan, record["left_out"] = planned_trials(own, settings, foolings)
        attempts = _attacked(own, plan, settings, foolings, progress, kept)
        record["trials"], outcomes = [_told(each) for each in attempts], [each.outcome for each in attempts]
        best, known = _chosen(attempts, settings), {}
        if best is not None and best.network is not None:
            measured = measure_on_test(attacked_by(own, foolings[best.trial.attack]), best.network, settings, others)
            record |= measured
            known[measured["manipulated_sha256"]] = measured
            record["curve"] = _curve(own, attempts, foolings, settings, known)
            record["verdict"] = verdict_after(NAME, record["attack"], record["ci95"], record["accuracy"], outcomes)
            record["seconds"] = round(time.perf_counter() - started, 1)
            return Audited(record, best.network)
        verdict = verdict_after(NAME, None, None, None, outcomes)
        record["curve"] = [] if verdict in UNRANKED else _curve(own, attempts, foolings, settings, known)
    record |= {"verdict": verdict, "attack": None, "deceptive_rate": None, "ci95": None, "fsr": None, "fsr_null": None}
    record |= {"top1_drop": None, "accuracy": None, "seconds": round(time.perf_counter() - started, 1)}
    return Audited(record)


def _attacked(
    setup: Setup,
    plan: Sequence[Trial],
    settings: AuditSettings,
    foolings: Mapping[str, Fooling],
    progress: bool,
    kept: KeptAttempts | None,
) -> list[Attempt]:
    """Try one attack after the other, until one is enough or the trials are used up."""
    attempts: list[Attempt] = []
    for number, trial in enumerate(plan, 1):
        log.info("  trial %d of at most %d: %s, %s", number, len(plan), trial.attack, trial.way)
        own = attacked_by(setup, foolings[trial.attack])
        rival = max((each.selection["deceptive_rate"] for each in attempts if affordable(each, settings)), default=0.0)
        name = setup.trained.name
        last = kept.load(name, number, trial) if kept else None
        if last is None:
            last = attempt(own, trial, settings, progress, rival=rival)
            if kept and not has_failed(last.outcome):  # what failed is tried again
                kept.save(name, number, last)
        attempts.append(last)
        rate = last.selection.get("deceptive_rate", 0.0)
        log.info("    %s; deceptive rate %.1f %% on selection images", last.outcome, 100 * rate)
        if rate >= settings.enough and affordable(last, settings):
            break
    return attempts


def affordable(attempt: Attempt, settings: AuditSettings) -> bool:
    """Tell whether an attack stays within the budget on the selection images."""
    found = attempt.selection
    return bool(found) and Budget(settings.top1).pays_for(found["top1_drop"], found["agreement"])


def _chosen(attempts: list[Attempt], settings: AuditSettings) -> Attempt | None:
    """Choose the attack with the highest deceptive rate among those within the budget; the first of equal ones."""
    found = [each for each in attempts if each.network is not None and affordable(each, settings)]
    return max(found, key=lambda each: each.selection["deceptive_rate"], default=None)


def measure_on_test(
    setup: Setup, network: nn.Module, settings: AuditSettings, others: Mapping[str, Interpreter]
) -> dict[str, Any]:
    """Measure the chosen attack on the test images, together with what it does to the other interpreters."""
    own = replace(
        setup,
        interpreters=dict(setup.interpreters) | dict(others),
        settings=replace(setup.settings, accuracy=AccuracySettings(margin=settings.top1)),
    )
    name = setup.trained.name
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    metrics = summarise(compare_networks(own, network, measuring_trainer(settings.accelerator, False)), own)
    drop = metrics["accuracy"]["drop"]
    rates = {each: metrics["deceptive_rate"][each] for each in own.interpreters}
    swapped = rates[name] if own.pair else {}  # of two classes the one that is deceived less often counts
    less = min(swapped, key=lambda which: _or_zero(swapped[which]), default=None)

    def of(values: Mapping[str, Any]) -> Any:
        value = values.get(name)
        return value[less] if less and isinstance(value, Mapping) else value

    return {
        "attack": setup.fooling.name,
        "deceptive_rate": _or_zero(of(rates)),
        "ci95": of(metrics["ci95"]["deceptive_rate"]),
        "n_deceptive": of(metrics["n_deceptive"]),
        "faithful_before": of(metrics["faithful_before"]),
        "misdirected_rate": of(metrics.get("misdirected_rate", {})),
        "fsr": of(metrics["fsr"]),
        "fsr_null": of(metrics.get("fsr_null", {})),
        "fsr_null_control": of(metrics.get("fsr_null_control", {})),
        "degenerate": of(metrics["degenerate"]),
        "top1": {network: metrics["accuracy"][network]["top1"] for network in ("original", "manipulated")},
        "top1_drop": drop["top1"],
        "top1_drop_ci95": drop["ci95"],
        "accuracy": metrics["accuracy"]["verdict"],
        "agreement": metrics["agreement"],
        "transfer": {other: min(rates[other].values(), key=_or_zero) if less else rates[other] for other in others},
        "manipulated_sha256": weights_digest(network),
        "n_test": metrics["n_images"],
        "n_explained": metrics["n_images_fsr"],
    }


def _or_zero(rate: float | None) -> float:
    return rate or 0.0


def _curve(
    setup: Setup,
    attempts: list[Attempt],
    foolings: Mapping[str, Fooling],
    settings: AuditSettings,
    known: dict[str, dict[str, Any]],
) -> list[dict[str, Any]]:
    """Measure the highest deceptive rate for each budget: chosen on selection images, measured on test images.

    Weights that several budgets choose are judged and measured once; `known` are measurements by the weights' hash.
    """
    points: list[dict[str, Any]] = []
    images = len(setup.data.selection())
    judgements: dict[tuple[str, str], float] = {}
    quiet = replace(setup, settings=replace(setup.settings, nulls=NullSettings(())))
    for budget in settings.budgets:
        if budget * images < 2:
            continue
        best = _best_for(quiet, budget, attempts, foolings, settings, judgements)
        if best is None:
            points.append({"top1": budget, "attack": None, "deceptive_rate": 0.0, "ci95": None, "top1_drop": 0.0})
            continue
        own, network = best
        digest = weights_digest(network)
        measured = known[digest] = known.get(digest) or measure_on_test(own, network, settings, {})
        kept = ("attack", "deceptive_rate", "ci95", "fsr", "top1_drop", "manipulated_sha256")
        points.append({"top1": budget} | {key: measured[key] for key in kept})
    return points


def _best_for(
    setup: Setup,
    budget: float,
    attempts: list[Attempt],
    foolings: Mapping[str, Fooling],
    settings: AuditSettings,
    judgements: dict[tuple[str, str], float],
) -> tuple[Setup, nn.Module] | None:
    """Choose the weights for a budget on selection images; None where no attack stays within it.

    Of attacks that stay within the audit's own budget the best one there stands for all of them, without a judgement at
    every other budget, which takes minutes for a large network.
    """
    candidates, chosen = [], _chosen(attempts, settings)
    if chosen is not None and budget not in chosen.best:
        chosen = None
    for each in attempts:
        if budget not in each.best or (chosen is not None and each is not chosen and affordable(each, settings)):
            continue
        own = attacked_by(setup, foolings[each.trial.attack])
        candidates.append((own, with_weights(setup.original, each.best[budget])))
    if len(candidates) < 2:
        return candidates[0] if candidates else None

    def rate(candidate: tuple[Setup, nn.Module]) -> float:
        key = (candidate[0].fooling.name, weights_digest(candidate[1]))
        if key not in judgements:
            judgements[key] = judged(*candidate, settings)["deceptive_rate"]
        return judgements[key]

    return max(candidates, key=rate)


def _told(attempt: Attempt) -> dict[str, Any]:
    """Describe a trial for audit.json."""
    trial: Trial = attempt.trial
    return asdict(trial) | {
        "outcome": attempt.outcome,
        "selection": attempt.selection or None,
        "visits": [asdict(visit) for visit in attempt.visits],
        "seconds": round(attempt.seconds, 1),
    }
