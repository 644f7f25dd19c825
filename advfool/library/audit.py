"""Audits interpreters from Python: `advfool.audit_interpreters`."""

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Int
from safetensors.torch import load_file
from torch import Tensor, nn

from advfool.auditing.about import about, python_call
from advfool.auditing.attack import attacked_by, with_weights
from advfool.auditing.card import CARD, card
from advfool.auditing.defences import what_helps, with_defences
from advfool.auditing.kept_attempts import KeptAttempts
from advfool.auditing.members import kept_members
from advfool.auditing.notice import would_anyone_notice
from advfool.auditing.page import page, sentence, strip
from advfool.auditing.protocol import Audit, Audited, run_audit
from advfool.auditing.record import RECORD
from advfool.auditing.seeds import repeat_with_seeds
from advfool.auditing.selecting import check_budget, with_enough_selection
from advfool.auditing.suite import AuditSettings, Defence
from advfool.data.composites import class_indices
from advfool.evaluation.assembly import assemble
from advfool.evaluation.paired import Target
from advfool.evaluation.setup import AOPCSettings, FaithfulnessSettings, NullSettings, Settings, Setup
from advfool.foolings.base import Fooling
from advfool.foolings.target import ANOTHER_CLASS
from advfool.interpreters.base import Interpreter
from advfool.library.datasets import copy_of_classifier, prepare_data
from advfool.library.interpreters import chosen_fooling, chosen_interpreters
from advfool.models.weights import file_digest, weights_digest, write_weights
from advfool.utilities.checking import checked
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import read_json, write_json
from advfool.utilities.kinds import Accelerator, Count, Seed, Share, Text, Workers
from advfool.utilities.provenance import provenance
from advfool.utilities.text import file_name

PAGE = "audit.html"
PARTS = "parts"  # folder of what an unfinished audit has found
CHEAP = ("sharpened_4", "sharpened_16", "blurred")  # the negative controls that need no other network


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Args:
        audit: the record, the setup and the winning networks.
    """

    audit: Audit

    @property
    def record(self) -> dict[str, Any]:
        """The contents of audit.json."""
        return self.audit.record

    def verdicts(self) -> dict[str, str]:
        """Return a sentence for each interpreter."""
        return {name: sentence(name, found) for name, found in self.record["interpreters"].items()}

    def save(self, folder: str | Path) -> Path:
        """Write audit.json, audit.html, card.md and the weights of the winning attacks.

        Args:
            folder: where they go; it is made where it does not exist.

        Returns:
            the folder.
        """
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        for name, network in self.audit.networks.items():
            path = weights_of(place, name)
            write_weights(network, path, self.audit.setup.data.classes)
            self.record["interpreters"][name]["weights"] = {"file": path.name, "sha256": file_digest(path)}
        strips = {name: self._strip(name) for name in self.record["interpreters"]}
        (place / PAGE).write_text(page(self.record, strips), encoding="utf-8")
        (place / CARD).write_text(card(self.record), encoding="utf-8")
        write_json(place / RECORD, self.record)
        return place

    def _strip(self, interp: str) -> bytes:
        """Draw the maps of an interpreter, on what the attack that won is about."""
        attack = self.record["interpreters"][interp]["attack"]
        setup = attacked_by(self.audit.setup, fooling_of(attack)) if attack else self.audit.setup
        return strip(setup, interp, self.audit.networks.get(interp))


@checked
def audit_interpreters(
    model: nn.Module,
    dataset: object,
    interpreters: Sequence[Text | Interpreter] = ("gradcam", "lrp_t", "simplegrad_t"),
    *,
    top1: Share = 0.01,
    trials: Count = 6,
    steps: Count = 600,
    layer: Text | None = None,
    target: Target = "label",
    selection: object = None,
    test: object = None,
    groups: Sequence[Hashable] | Int[Tensor, "n"] | None = None,
    output: Text | int | None = None,
    batch_size: Count = 32,
    workers: Workers = 0,
    seed: Seed = 0,
    accelerator: Accelerator = "auto",
    progress: bool = True,
    model_name: Text | None = None,
    data_name: Text | None = None,
    detectors: bool = False,
    defences: Sequence[Defence] = (),
    seeds: Count = 1,
) -> AuditReport:
    """Find out whether the maps of interpreters can be made to lie about a network, and at what price.

    Args:
        model: the network; it is left as it is.
        dataset: images with labels, see `fool`.
        interpreters: names (see `list_interpreters`) or objects.
        top1: top-1 accuracy that an attack may cost on the selection images, as a fraction.
        trials: at most so many attacks on each interpreter.
        steps: training steps of an attack.
        layer: see `fool`.
        target: see `fool`.
        selection: see `fool`.
        test: see `fool`.
        groups: see `fool`.
        output: see `fool`.
        batch_size: training images in a batch.
        workers: processes that load images.
        seed: of everything random.
        accelerator: Lightning's word for the device.
        progress: whether progress bars are shown.
        model_name: what the record calls the network; None: the name of its class.
        data_name: what the record calls the data; None: the name of their class.
        detectors: whether detectors are measured on a population of honest and fooled networks; that takes several
            times as long as the audit.
        defences: what might help: `aggregate`, `smoothgrad` and `softplus` are audited as further interpreters;
            `finetune`, `batch_norm`, `noise` and `centre` are steps that are taken with each network that an attack has
            fooled.
        seeds: the attack that won against an interpreter is repeated so often, each time with the training images in
            another order.

    Returns:
        the record, sentences with the verdicts, and `save(folder)`.

    Raises:
        AdvfoolError: something does not exist or does not fit; the message says what to do.
    """
    settings = AuditSettings(top1, trials, steps, batch_size, seed=seed, accelerator=accelerator)
    pl.seed_everything(seed, workers=True, verbose=False)
    original = copy_of_classifier(model, output)
    data = prepare_data(original, dataset, selection, test, groups, None, seed, batch_size, workers)
    chosen = chosen_interpreters(interpreters, original, data.input.shape, layer)
    comparison = Settings(
        target if data.has_labels else "predicted", seed, None, faithfulness=FaithfulnessSettings(256, seed=seed)
    )
    name = model_name or type(model).__name__
    foolings = suite_of(settings)
    setup = assemble(
        data,
        original,
        chosen,
        foolings[settings.attacks[0]],
        comparison,
        trains=False,
        model=name,
        target_layer=layer,
        any_scale=True,
    )
    options = {"interpreters": list(interpreters), "top1": top1, "trials": trials, "steps": steps, "layer": layer}
    options |= {"target": target, "output": output, "batch_size": batch_size, "seed": seed}
    options |= {"detectors": True} if detectors else {}
    options |= {"defences": list(defences)} if defences else {}
    options |= {"seeds": seeds} if seeds > 1 else {}
    called = data_name or ("tensors" if isinstance(dataset, tuple) else type(dataset).__name__)
    return audit_setup(setup, settings, called, python_call(options), None, progress, detectors, defences, seeds)


def audit_setup(
    setup: Setup,
    settings: AuditSettings,
    data: str,
    repeat: str,
    folder: Path | None = None,
    progress: bool = True,
    detectors: bool = False,
    defences: Sequence[Defence] = (),
    seeds: Count = 1,
) -> AuditReport:
    """Audit the interpreters of a setup; the command line and `audit_interpreters` both call this.

    Args:
        setup: data, network and interpreters.
        settings: of the audit.
        data: name of the data.
        repeat: the command or the call that repeats the audit.
        folder: where each interpreter's part is kept, so that an interrupted audit goes on; None: nowhere.
        progress: whether progress bars are shown.
        detectors: whether detectors are measured.
        defences: see `audit_interpreters`.
        seeds: see `audit_interpreters`.
    """
    setup = with_enough_selection(setup, settings)
    check_budget(setup, settings)
    if not setup.settings.faithfulness.images:
        raise AdvfoolError("faithfulness.images=0: an audit needs the deceptive rate. Give a number of images.")
    if None not in setup.data.pair:
        class_indices(setup.data, setup.data.pair)  # type: ignore[arg-type]
    cheap = replace(setup.settings, nulls=NullSettings(CHEAP), aopc=AOPCSettings())
    own, foolings = replace(setup, settings=cheap, composites=None), suite_of(settings)
    own = with_defences(own, defences)
    described = about(own, settings, data)
    environment = provenance()
    whole = described | {"environment": environment, "repeat": repeat}
    known = found = kept = None
    members = (None, None)
    if folder:
        parts, key = folder / PARTS, _key(own, foolings, described, environment)
        known, found = _kept(parts, own, key)
        kept, members = KeptAttempts(parts, key, own.original, settings.top1), kept_members(parts, key)
    audit = run_audit(own, settings, foolings, whole, progress, known, found, kept)
    repeat_with_seeds(audit, settings, foolings, seeds, progress)
    audit.record.update(what_helps(audit, settings, foolings, defences, progress))
    if detectors:
        audit.record.update(would_anyone_notice(audit, settings, foolings, progress, *members))
    return AuditReport(audit)


def suite_of(settings: AuditSettings) -> dict[str, Fooling]:
    """Build the foolings of the suite, by name."""
    return {name: fooling_of(name) for name in settings.attacks}


def fooling_of(attack: str) -> Fooling:
    """Build the fooling of an attack: one of the command line's, or Target with the map of another class."""
    apart = attack == ANOTHER_CLASS
    fooling = chosen_fooling("target", picture=ANOTHER_CLASS) if apart else chosen_fooling(attack)
    return replace(fooling, name=attack)


def weights_of(folder: Path, interp: str) -> Path:
    """Name the file of the weights that won against an interpreter."""
    return folder / f"{file_name(interp)}.safetensors"


def _kept(
    parts: Path, setup: Setup, key: str
) -> tuple[Callable[[str], Audited | None], Callable[[str, Audited], None]]:
    """Return what reads and what writes the part of one interpreter."""

    def known(name: str) -> Audited | None:
        found = read_json(parts / f"{file_name(name)}.json")
        if found is None or found.get("about") != key or not isinstance(found.get("record"), dict):
            return None
        record, weights = found["record"], weights_of(parts, name)
        if record.get("attack") is None:
            return Audited(record)
        try:
            network = with_weights(setup.original, load_file(weights))
        except Exception:  # damaged: done again
            return None
        if weights_digest(network) != record.get("manipulated_sha256"):
            return None
        return Audited(record, network)

    def found(name: str, audited: Audited) -> None:
        parts.mkdir(parents=True, exist_ok=True)
        if audited.network is not None:
            write_weights(audited.network.cpu(), weights_of(parts, name), setup.data.classes)
        write_json(parts / f"{file_name(name)}.json", {"about": key, "record": audited.record})

    return known, found


def _key(setup: Setup, foolings: dict[str, Fooling], described: dict[str, Any], environment: dict[str, Any]) -> str:
    """Hash what the parts of an audit depend on."""
    kinds = [{name: repr(each) for name, each in group.items()} for group in (setup.interpreters, foolings)]
    held = [described, repr(setup.settings), kinds, environment, torch.cuda.is_available()]
    return hashlib.sha256(json.dumps(held, default=str).encode()).hexdigest()
