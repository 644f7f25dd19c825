"""What audit.json holds, field by field: the types and ranges that every record is checked against.

`advfool/auditing/audit.schema.json` and the table of `docs/audit_record.md` are written from here, by
`python docs/make_audit_schema.py`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Len
from pydantic import Field, StringConstraints, ValidationError

from advfool.auditing.record_further import Detectors, Member, Repeated, Treated
from advfool.auditing.record_types import Difference, File, Interval, Name, Part, Sha, Value, Words
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.kinds import Count, NonNegative, Seed, Share, Size
from advfool.utilities.stored import stored_json
from advfool.utilities.text import clean_texts, shortened

RECORD = "audit.json"
VERSION = 1  # of the schema
LARGEST = 8 * 2**20  # bytes of an audit.json


class Limits(Part):
    """What an attack may cost on the selection images."""

    top1: Share = Field(description="top-1 accuracy that may be lost, as a fraction")
    agreement: Share | None = Field(None, description="share of the predictions that stays the same, at least")


class Splits(Part):
    """A number for each split of the data."""

    train: Count
    selection: Count
    test: Count


class Hashes(Part):
    """A SHA-256 for each split of the data: of the images and labels as the network takes them."""

    train: Sha
    selection: Sha
    test: Sha


class Environment(Part):
    """What the audit was made with; two audits with one seed differ in nothing but this and the seconds."""

    commit: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, description="commit of advfool, with `+` where files differ from it; null where it is installed"
    )
    versions: Annotated[dict[Name, Name | None], Len(0, 100)] = Field(
        description="versions of advfool, torch and others"
    )
    python: Name = Field(description="version of Python")
    platform: Name = Field(description="operating system and processor")
    threads: Size = Field(description="threads of torch, which decide the last digits")


class Honesty(Part):
    """What the interpreter's maps are on the original network, on selection images, before any attack."""

    faithful: Share = Field(description="share of the images whose map beats all random orders of the image's regions")
    degenerate: Share = Field(description="share of the images whose map is constant or not finite")
    zero_gradient: Share = Field(description="share of the images whose map does not depend on the parameters")
    images: Count = Field(description="number of images")


class Selection(Part):
    """What a trial reached on the selection images, which it is chosen by."""

    deceptive_rate: Share = Field(description="share of the honest explanations that it turned into lies")
    fsr: Share = Field(description="fooling success rate")
    top1_drop: Difference = Field(description="top-1 accuracy lost")
    agreement: Share = Field(description="share of the predictions that stay the same")


class Visit(Part):
    """One validation of a trial, on the selection images."""

    step: Size = Field(description="of the training")
    fsr: Share = Field(description="fooling success rate")
    price: float = Field(description="share of the budget that is spent: 1 is all of it")
    weight: NonNegative = Field(description="of the fooling penalty, from there on")
    moved: NonNegative = Field(0.0, description="how far the mean test loss has moved from that of the original maps")


class Trial(Part):
    """An attack that was tried, failed ones included."""

    attack: Name = Field(description="name of the fooling")
    outcome: Words = Field(description="how it ended")
    seconds: NonNegative = Field(description="how long it took")
    steps: Count | None = Field(None, description="training steps, unless it is stopped early")
    offset: NonNegative = Field(0.0, description="weight of the change of the mean logit in training")
    part: Share = Field(1.0, description="share of the parameters that is trained, the last ones")
    free_layer: Words | None = Field(None, description="the layer that moves as no prediction sees it, if any does")
    held_layer: Words | None = Field(None, description="the layer whose rows keep their mean, if any does")
    slack: NonNegative | None = Field(None, description="budgets that it may spend until the maps are fooled")
    selection: Selection | None = Field(None, description="null where nothing was fooled within the budget")
    visits: Annotated[list[Visit], Len(0, 10_000)] = Field([], description="its validations, on the selection images")


class Point(Part):
    """A point of the price curve: the best attack for a budget, measured on the test images."""

    top1: NonNegative = Field(description="the budget")
    attack: Name | None = Field(None, description="the best attack; null where none is within the budget")
    deceptive_rate: Share | None = Field(description="of this attack")
    ci95: Interval | None = Field(None, description="its 95 % interval")
    top1_drop: Difference | None = Field(None, description="top-1 accuracy lost")


class Top1(Part):
    """The top-1 accuracy of both networks on the test images."""

    original: Share
    manipulated: Share


class Weights(Part):
    """A file of weights beside audit.json."""

    file: File = Field(description="its name")
    sha256: Sha = Field(description="of the file, as `sha256sum` prints it")


class Audited(Part):
    """What was found of one interpreter. The numbers are of test images, and null where it was not broken at all."""

    verdict: Name = Field(
        description="`broken by ATTACK`, `not broken by SUITE`, "
        "`degenerate`, `unfaithful`, `no gradient`, `not attacked`"
    )
    attack: Name | None = Field(description="the chosen attack")
    deceptive_rate: Share | None = Field(description="share of the honest explanations that it turned into lies")
    ci95: Interval | None = Field(description="95 % interval of the deceptive rate, over images")
    fsr: Share | None = Field(description="fooling success rate, the paper's measure")
    fsr_null: Share | None = Field(description="the FSR without an attack: the highest of the controls")
    fsr_null_control: Name | None = Field(None, description="the control that reaches it")
    top1_drop: Difference | None = Field(description="the price: top-1 accuracy lost")
    top1_drop_ci95: Interval | None = Field(None, description="its paired 95 % interval")
    accuracy: Literal["kept", "lost", "not shown"] | None = Field(description="the drop against the budget")
    top1: Top1 | None = None
    agreement: Share | None = Field(None, description="share of the predictions that stay the same")
    n_deceptive: Size | None = Field(None, description="images that the deceptive rate is a share of")
    n_test: Size | None = Field(None, description="test images")
    n_explained: Size | None = Field(None, description="images whose maps were measured; of `active` composites")
    faithful_before: Share | None = Field(None, description="share of the original maps that are faithful")
    misdirected_rate: Share | None = Field(None, description="share of deceived maps that point where the attack says")
    degenerate: Share | None = Field(None, description="share of constant maps after the attack")
    honesty: Honesty
    settings: Words | None = Field(None, description="the interpreter with its settings, as Python shows it")
    trials: Annotated[list[Trial], Len(0, 1000)] = Field(description="everything that was tried, in order")
    left_out: Annotated[dict[Name, Words], Len(0, 100)] = Field({}, description="attacks that mean nothing, and why")
    curve: Annotated[list[Point], Len(0, 100)] = Field([], description="the best deceptive rate for each budget")
    transfer: Annotated[dict[Name, Share | None], Len(0, 1000)] = Field(
        {}, description="deceptive rate of the chosen attack on the maps of the other interpreters"
    )
    detectors: Detectors = Field({}, description="detectors that look at this interpreter's maps, by name")
    seeds: Repeated | None = Field(None, description="the same attack with other seeds")
    manipulated_sha256: Sha | None = Field(None, description="of the manipulated network: its tensors, in their order")
    weights: Weights | None = Field(None, description="the manipulated network")
    seconds: NonNegative = Field(description="how long all of it took")


class Record(Part):
    """An audit of the interpreters of one network."""

    version: Literal[1] = Field(alias="schema", description="version of this format")
    suite: Name = Field(description="version of the protocol, such as AM-1")
    threat_model: Words = Field(description="what the attacker knows and may change, and what the auditor sees")
    budget: Limits
    settings: Annotated[dict[Name, Value | Annotated[list[Value], Len(0, 100)]], Len(0, 100)] = Field(
        description="of the suite: trials, steps and so on; the class explained; how faithfulness is measured"
    )
    model: Name = Field(description="name of the network")
    original_sha256: Sha = Field(description="of the original network: its tensors, in their order")
    data: Name = Field(description="name of the data")
    images: Splits
    moved_to_selection: Size = Field(0, description="training images that became selection images, for the budget")
    data_sha256: Hashes
    classes: Count = Field(description="number of classes")
    seed: Seed = Field(description="of everything random")
    environment: Environment
    repeat: Words = Field(description="the command or the Python call that repeats the audit")
    interpreters: Annotated[dict[Name, Audited], Len(1, 1000)] = Field(description="what was found of each, by name")
    detectors: Detectors = Field({}, description="detectors that score a whole network, by name")
    defences: Annotated[dict[Name, dict[Name, Treated]], Len(0, 1000)] = Field(
        {}, description="by interpreter and step, what an auditor's step leaves of the winning attack"
    )
    population: Annotated[list[Member], Len(0, 10_000)] | None = Field(
        None, description="the networks that detectors are judged by; null where they were not measured"
    )


def read_record(folder: Path) -> tuple[Record, dict[str, Any]]:
    """Read audit.json of a folder that anybody may have written.

    Args:
        folder: of an audit.

    Returns:
        the record, and the same as a plain tree with all its keys, which `advfool.auditing.page` takes.

    Raises:
        AdvfoolError: the file is missing, too large, damaged or of another version, or a value does not fit.
    """
    tree = clean_texts(stored_json(folder, RECORD, LARGEST))
    return as_record(tree, str(folder / RECORD)), tree


def as_record(tree: dict[str, Any], source: str) -> Record:
    """Check a record.

    Args:
        tree: the content of audit.json.
        source: what a message calls it.

    Raises:
        AdvfoolError: a value does not fit; the message names the first three.
    """
    version = tree.get("schema")
    if version != VERSION or isinstance(version, bool):
        raise AdvfoolError(f"'{source}': expected schema {VERSION}, got {shortened(version)}.")
    try:
        return Record.model_validate(tree)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        problems = [f"{'.'.join(map(shortened, each['loc']))}: {each['msg']}" for each in found[:3]]
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        raise AdvfoolError(f"'{source}' is not a record of an audit. {'; '.join(problems)}{more}.") from error
