"""Defences: interpreters that should be harder to fool, and steps that may undo what an attack did."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from advfool.auditing.attack import attacked_by, attempt
from advfool.auditing.population import Honest, winning_trial
from advfool.auditing.protocol import Audit, affordable, measure_on_test
from advfool.auditing.suite import APART, OF_NETWORKS, RATE, SLACK, AuditSettings, Defence, Trial
from advfool.data.samples import in_batches, some_of, take
from advfool.evaluation.noise import parameter_noise
from advfool.evaluation.setup import NullSettings, Setup
from advfool.foolings.base import Fooling
from advfool.interpreters import Aggregate, Interpreter, SmoothGrad, Softplus
from advfool.models.batch_norm import batch_norms, re_estimated
from advfool.training.free_direction import centred, find_free_layer
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.modules import copied

log = logging.getLogger(__name__)
KEPT = ("deceptive_rate", "ci95", "fsr", "top1_drop")  # what the record holds of a treated network

SAMPLES = 8  # noisy copies of SmoothGrad: the attack runs each of them at every step
LEVEL = 0.1  # of the noise on the parameters, as a multiple of each tensor's own standard deviation
IMAGES = 512  # training images that batch norm's statistics are estimated on
AT_A_TIME = 64  # images


def defended(interpreters: Mapping[str, Interpreter], defences: Sequence[Defence]) -> dict[str, Interpreter]:
    """Add the defended interpreters, which are then audited like any other.

    Args:
        interpreters: those that are audited, by name.
        defences: `aggregate` adds the mean of all that can be trained through, `smoothgrad` and `softplus` add one for
            each of them, where that is possible; other defences add none.

    Returns:
        the interpreters, with the defended ones after them.

    Raises:
        AdvfoolError: a mean is wanted, and there are fewer than two interpreters to average.
    """
    trainable = {name: each for name, each in interpreters.items() if _is_trainable(each)}
    added: list[Interpreter] = []
    if "aggregate" in defences:
        if len(trainable) < 2:
            raise AdvfoolError(
                "defences=[aggregate] is the mean of the audited interpreters: expected at least two that can be "
                f"trained through, got {', '.join(trainable) or 'none'}. Give more: interpreters=[gradcam,lrp_t]."
            )
        added.append(Aggregate(list(trainable.values()), name=f"mean({'+'.join(trainable)})"))
    for name, each in trainable.items():
        if "smoothgrad" in defences and not isinstance(each, SmoothGrad):
            added.append(SmoothGrad(each, samples=SAMPLES, name=f"smoothgrad({name})"))
        if "softplus" in defences and each.walk is None:
            added.append(Softplus(each, name=f"softplus({name})"))
    return dict(interpreters) | {each.name: each for each in added if each.name not in interpreters}


def with_defences(setup: Setup, defences: Sequence[Defence]) -> Setup:
    """Add the defended interpreters to a setup, each tried on two images before any long work.

    Args:
        setup: what is audited.
        defences: see `defended`.

    Raises:
        AdvfoolError: an interpreter cannot explain the network, or there are too few to average.
    """
    interpreters = defended(setup.interpreters, defences)
    data = setup.data.selection()
    images = take(data, range(min(2, len(data)))).image
    for name in interpreters.keys() - setup.interpreters.keys():
        try:
            interpreters[name].for_training()(setup.original, images, 0)
        except AdvfoolError as error:
            raise AdvfoolError(f"defences: {name}: {error}") from error
    return replace(setup, interpreters=interpreters)


def what_helps(
    audit: Audit,
    settings: AuditSettings,
    foolings: Mapping[str, Fooling],
    defences: Sequence[Defence],
    progress: bool = False,
) -> dict[str, Any]:
    """Measure on the test images what steps leave of the winning attacks.

    An auditor takes these steps with the network alone and honest training images. They are not part of what is
    attacked: an attacker who expects them may do better. Of `centre` this is measured, too.

    Args:
        audit: its winning networks are treated.
        settings: of the audit.
        foolings: those of the suite, by name.
        defences: those of maps are not measured here, but audited as interpreters.
        progress: whether progress bars are shown.

    Returns:
        for audit.json the key `defences`: by interpreter and step the deceptive rate with its interval, the FSR and the
        top-1 accuracy that the treated network has lost against the original one; under `aware`, the same of the
        best attack by somebody who expects the step, None where there is none. A step that does not apply (batch
        norm, of a network without it) is left out.
    """
    steps = [defence for defence in defences if defence in OF_NETWORKS]
    found: dict[str, dict[str, Any]] = {}
    for name, network in audit.networks.items():
        fooling = foolings[audit.record["interpreters"][name]["attack"]]
        interpreters = {name: audit.setup.interpreters[name]}
        quiet = replace(audit.setup.settings, nulls=NullSettings(()))
        own = replace(attacked_by(audit.setup, fooling), interpreters=interpreters, settings=quiet)
        for step in steps:
            treated = _treated(own, network, step, settings, progress)
            if treated is None:
                continue
            log.info("%s: %s", name, step)
            measured = measure_on_test(own, treated, settings, {})
            left = found.setdefault(name, {})[step] = {key: measured[key] for key in KEPT}
            if step == "centre":
                trial = winning_trial(audit.record["interpreters"][name], settings)
                left["aware"] = _left_of_expecting(own, trial, settings, foolings, progress)
    return {"defences": found} if steps else {}


def _left_of_expecting(
    setup: Setup, winner: Trial, settings: AuditSettings, foolings: Mapping[str, Fooling], progress: bool
) -> dict[str, Any] | None:
    """Measure what centring leaves of the best attack by who expects it; None where nothing deceives in the budget."""
    best = _expecting(setup, winner, settings, foolings, progress)
    if best is None:
        return None
    treated = _treated(*best, "centre", settings, progress)
    assert treated is not None
    measured = measure_on_test(best[0], treated, settings, {})
    return {key: measured[key] for key in (*KEPT, "attack")}


def _expecting(
    setup: Setup, winner: Trial, settings: AuditSettings, foolings: Mapping[str, Fooling], progress: bool
) -> tuple[Setup, nn.Module] | None:
    """Attack as somebody does who expects the last layer to be centred, and leaves the mean of its rows.

    The attacks of the suite that ask for the same of all classes are tried in turn, once each, until one is enough; the
    best one on selection images counts.

    Args:
        setup: with one interpreter.
        winner: the attack that broke it, whose steps and part of the network are taken.
        settings: of the audit.
        foolings: those of the suite, by name.
        progress: whether progress bars are shown.

    Returns:
        the setup of the best attack and its network; None where nothing deceives within the budget.
    """
    layer = find_free_layer(setup.original, _a_few(setup))
    best, most = None, 0.0
    for name in [name for name in foolings if name not in APART][: settings.trials]:
        own = attacked_by(setup, foolings[name])
        trial = replace(winner, attack=name, slack=SLACK, offset=1.0, free_layer=None, held_layer=layer)
        found = attempt(own, trial, settings, progress, rival=most)
        rate = found.selection.get("deceptive_rate", 0.0)
        log.info("    expected, %s: %s; deceptive rate %.1f %% on selection images", name, found.outcome, 100 * rate)
        if found.network is not None and affordable(found, settings) and rate > most:
            best, most = (own, found.network), rate
        if most >= settings.enough:
            break
    return best


def _treated(setup: Setup, network: nn.Module, step: str, settings: AuditSettings, progress: bool) -> nn.Module | None:
    """Copy a network and do to it what an auditor could; None where a step does not apply."""
    network = network.cpu()
    if step == "finetune":
        loss = "cross_entropy" if setup.data.has_labels else "distillation"
        honest = Honest(loss, RATE, settings.seed)
        return honest.make(replace(setup, original=network), settings, {}, progress).network
    if step == "noise":
        with ExitStack() as stack:
            return copied(stack.enter_context(parameter_noise(network, LEVEL, settings.seed)))
    if step == "centre":
        return centred(network, _a_few(setup))
    if not any(True for _ in batch_norms(network)):
        return None
    data = setup.data.plain_train()
    chosen = some_of(len(data), IMAGES, settings.seed)
    return re_estimated(network, (batch.image for batch in in_batches(data, chosen, AT_A_TIME)))


def _a_few(setup: Setup) -> Float[Tensor, "n channels h w"]:
    """Read some training images, on which the last layer is found."""
    data = setup.data.plain_train()
    return take(data, range(min(AT_A_TIME, len(data)))).image


def _is_trainable(interpreter: Interpreter) -> bool:
    try:
        interpreter.for_training()
    except AdvfoolError:  # of another library
        return False
    return True
