"""Whether the record of an audit agrees with itself, with the rules of its suite, and with the files beside it."""

import os
from collections.abc import Iterator
from math import isclose
from pathlib import Path

from advfool.auditing.record import Audited, Interval, Record, read_record
from advfool.auditing.suite import AuditSettings
from advfool.auditing.verdicts import UNRANKED, has_failed, verdict_after, verdict_before
from advfool.metrics.functional.accuracy import accuracy_verdict
from advfool.models.weights import file_digest, read_weights
from advfool.training.multiplier import DISAGREEMENT, Budget, within
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.stored import stored_file

NUMBERS = ("attack", "deceptive_rate", "ci95", "fsr", "top1_drop", "accuracy")
CLOSE = 1e-6


def problems(folder: Path, weights: bool = True) -> list[str]:
    """List what is wrong with an entry of the leaderboard; nothing where it may be added.

    Args:
        folder: of an audit: audit.json, and the weights that it names.
        weights: whether the files of weights have to be there.

    Raises:
        AdvfoolError: audit.json cannot be read or does not fit the schema.
    """
    record, _ = read_record(folder)
    found = disagreements(record)
    for name, audited in record.interpreters.items():
        found += [f"{name}: {each}" for each in _of_weights(folder, audited, weights)]
    return found


def disagreements(record: Record) -> list[str]:
    """List what in a record contradicts something else in it, or the rules of the protocol."""
    found = list(_of_record(record))
    for name, audited in record.interpreters.items():
        here = [*_of_verdict(record, audited), *_of_numbers(record, audited), *_of_trials(record, audited)]
        found += [f"{name}: {each}" for each in (*here, *_of_transfer(record, name, audited))]
    return found


def _of_record(record: Record) -> Iterator[str]:
    """Check what is said of the whole audit."""
    top1, selection = record.budget.top1, record.images.selection
    if not within(2, top1 * selection):
        yield f"a budget of {top1:g} cannot be read off {selection} selection images: two of them are more"
    agreement = max(0.0, 1 - DISAGREEMENT * top1)
    if record.budget.agreement is not None and not _near(record.budget.agreement, agreement):
        yield f"budget.agreement is {record.budget.agreement:g}, and {agreement:g} follows from budget.top1"
    if "top1" in record.settings and record.settings["top1"] != top1:
        yield "settings.top1 and budget.top1 differ"
    if "seed" in record.settings and record.settings["seed"] != record.seed:
        yield "settings.seed and seed differ"


def _of_verdict(record: Record, audited: Audited) -> Iterator[str]:
    """Check that the verdict follows from the numbers, by the rules of the protocol."""
    honesty = audited.honesty
    expected = verdict_before(honesty.faithful, honesty.degenerate, honesty.zero_gradient) or verdict_after(
        record.suite, audited.attack, audited.ci95, audited.accuracy, [trial.outcome for trial in audited.trials]
    )
    if audited.verdict != expected:
        yield f"the verdict is '{audited.verdict}', and '{expected}' follows from the numbers"
    if audited.attack is None and any(getattr(audited, name) is not None for name in NUMBERS):
        yield "there are numbers of an attack, but no attack"
    if audited.attack is not None and any(getattr(audited, name) is None for name in NUMBERS if name != "ci95"):
        yield f"numbers are missing of the attack {audited.attack}"
    if audited.verdict in UNRANKED and any(not has_failed(trial.outcome) for trial in audited.trials):
        yield f"it was attacked although it is {audited.verdict}"


def _of_numbers(record: Record, audited: Audited) -> Iterator[str]:
    """Check rates against their intervals, the price against both accuracies, and counts against each other."""
    rates = [("deceptive_rate", audited.deceptive_rate, audited.ci95)]
    rates.append(("top1_drop", audited.top1_drop, audited.top1_drop_ci95))
    rates += [(f"curve at {point.top1:g}", point.deceptive_rate, point.ci95) for point in audited.curve]
    for name, rate, ends in rates:
        if not _inside(rate, ends):
            yield f"{name} {rate} lies outside of its interval {ends}"
    if audited.top1 and audited.top1_drop is not None:
        drop = audited.top1.original - audited.top1.manipulated
        if not _near(drop, audited.top1_drop):
            yield f"top1_drop is {audited.top1_drop:g}, and {drop:g} follows from the accuracies"
    ends = audited.top1_drop_ci95
    if ends and audited.accuracy not in (None, accuracy_verdict((ends[0], ends[1]), record.budget.top1)):
        yield f"the accuracy is not '{audited.accuracy}' by the interval of its drop and the budget"
    if audited.n_test not in (None, record.images.test):
        yield f"n_test is {audited.n_test} of {record.images.test} test images"
    if (audited.n_deceptive or 0) > (audited.n_explained or record.images.test):
        yield "the deceptive rate is a share of more images than there are"
    budgets = [point.top1 for point in audited.curve]
    if budgets != sorted(set(budgets)):
        yield "the budgets of the curve do not ascend"
    for point in audited.curve:
        own = (audited.attack, audited.deceptive_rate, audited.top1_drop)
        at_budget = _near(point.top1, record.budget.top1) and audited.attack is not None
        if at_budget and (point.attack, point.deceptive_rate, point.top1_drop) != own:
            yield "the curve at the budget differs from the numbers of the chosen attack"


def _of_trials(record: Record, audited: Audited) -> Iterator[str]:
    """Check that the chosen attack is the best of the trials within the budget on selection images."""
    most = record.settings.get("trials", AuditSettings.trials)
    if isinstance(most, int) and len(audited.trials) > most:
        yield f"{len(audited.trials)} trials, more than the {most} of the settings"
    allowed = record.settings.get("attacks")
    if isinstance(allowed, list) and (others := {trial.attack for trial in audited.trials} - set(map(str, allowed))):
        yield f"attacks that are not in the settings: {', '.join(sorted(others))}"
    budget = Budget(record.budget.top1)
    paid = [t for t in audited.trials if t.selection and budget.pays_for(t.selection.top1_drop, t.selection.agreement)]
    best = max((trial.selection.deceptive_rate for trial in paid if trial.selection), default=None)
    if audited.attack is None:
        if best is not None:
            yield "no attack was chosen, although one is within the budget"
        return
    own = [trial.selection.deceptive_rate for trial in paid if trial.selection and trial.attack == audited.attack]
    if not own or max(own) != best:
        yield f"{audited.attack} is not the best of the trials within the budget on selection images"


def _of_transfer(record: Record, name: str, audited: Audited) -> Iterator[str]:
    unknown = [other for other in audited.transfer if other not in record.interpreters or other == name]
    if unknown:
        yield f"transfer to interpreters that were not audited: {', '.join(unknown)}"


def _of_weights(folder: Path, audited: Audited, needed: bool) -> Iterator[str]:
    """Check that the weights of the winning attack are there and are those of the record."""
    if audited.attack is None:
        return
    if audited.weights is None:
        yield "the weights of the attack are not named"
        return
    name = audited.weights.file
    if not name.endswith(".safetensors"):
        yield f"{name} is no .safetensors file, and only those are taken"
    elif needed or os.path.lexists(folder / name):
        try:
            path = stored_file(folder, name)
            if file_digest(path) != audited.weights.sha256:
                yield f"the SHA-256 of {name} is not the one of the record"
            else:
                read_weights(path)
        except AdvfoolError as error:
            yield str(error)


def _inside(rate: float | None, ends: Interval | None) -> bool:
    return rate is None or ends is None or ends[0] - CLOSE <= rate <= ends[1] + CLOSE


def _near(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=0, abs_tol=CLOSE)
